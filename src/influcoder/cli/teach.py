"""The verbs of the teacher, which says what influence is: your decoder's gradients, or what another tool computed."""

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from influcoder.cli.flags import (
    BY_ITSELF,
    NOT_GIVEN,
    PAPERS_TEACHER,
    READ_AS_USUAL,
    Attribution,
    Files,
    Flag,
    Reading,
    ResumableOutput,
    Running,
    Seed,
    Teaching,
    local,
    refuse_without_decoder,
)
from influcoder.cli.output import finish, print_json

if TYPE_CHECKING:
    from influcoder.provenance import Provenance
    from influcoder.teachers.checkpoints import Checkpoint


def features(
    *,
    output: ResumableOutput,
    decoder: str,
    queries: Files,
    pool: Files,
    adapter: str | None = None,
    checkpoints: Files | None = None,
    teaching: Teaching = PAPERS_TEACHER,
    max_length: int = 1024,
    running: Running = BY_ITSELF,
    seed: Seed = 0,
    reading: Reading = READ_AS_USUAL,
) -> None:
    """Compute the teacher's features of queries and pool: one gradient an example.

    --workers N divides a machine's cores among N processes, --ray hands the shards to a Ray cluster. Several machines
    share a job when on each it is started with its own --shard I/N and the same output folder (Slurm arrays), or all of
    them by `torchrun --nproc-per-node N -m influcoder features ...` (on GPUs `accelerate launch` as well).

    Args:
        decoder: the model whose training is attributed: Hugging Face folder or hub id of a causal LM
        queries: JSONL (.gz, .zst) or Parquet files, folders or globs
        pool: the same for the training examples
        adapter: a PEFT LoRA adapter of the decoder
        checkpoints: folders that its training saved, for less and tracin; weighted by their learning rates
        max_length: tokens of an example that are read
    """
    arguments = dict(locals())
    from influcoder.model.decoder import Decoder
    from influcoder.runners.share import Share
    from influcoder.verbs import features as verb

    settings, share, runner = teaching.settings(seed), Share.read(running.shard), running.runner()
    loaded = Decoder.load(decoder, adapter=adapter, max_length=max_length, device=share.device())
    rows = reading.read(queries, "queries", output, loaded), reading.read(pool, "pool", output, loaded)
    found = verb.features(
        loaded,
        *rows,
        replace(output.folder(arguments), share=share),
        settings,
        checkpoints=checkpoints_of(checkpoints, decoder, max_length),
        max_reject_rate=reading.max_reject_rate,
        runner=runner,
    )
    finish("features", arguments, found, output)


def self_check(
    *,
    decoder: str,
    queries: Files,
    pool: Files,
    adapter: str | None = None,
    checkpoints: Files | None = None,
    teaching: Teaching = PAPERS_TEACHER,
    max_length: int = 1024,
    seed: Seed = 0,
    json: Flag = False,
) -> None:
    """Check on a few examples what `features` would compute, and how well the teacher agrees with itself.

    Args:
        decoder: Hugging Face folder or hub id of a causal LM
        queries: JSONL (.gz, .zst) or Parquet files, folders or globs
        pool: the same for the training examples
        adapter: a PEFT LoRA adapter of the decoder
        checkpoints: folders that its training saved, for tracin and less
        max_length: tokens of an example that are read
        json: print the numbers as JSON
    """
    from influcoder.data.reading import read_examples
    from influcoder.model.decoder import Decoder
    from influcoder.report.console import print_check
    from influcoder.teachers.check import check_teacher

    settings = teaching.settings(seed)
    loaded = Decoder.load(decoder, adapter=adapter, max_length=max_length)
    saved = checkpoints_of(checkpoints, decoder, max_length)
    asked, rows = (read_examples(files, prepare=loaded.prepare) for files in (queries, pool))
    found = check_teacher(loaded, asked, rows, settings, saved)
    if json:
        print_json(found)
    else:
        print_check(settings.name, found)


def teachers() -> None:
    """List the teachers that --teacher names."""
    from influcoder.report.console import print_teachers

    print_teachers()


def checkpoints_of(paths: list[str] | None, decoder: str | None, length: "int | Provenance") -> "list[Checkpoint]":
    """The checkpoints of some folders or globs; adapters among them are of `decoder`.

    Args:
        length: tokens of an example that are read, or the record of an earlier run that read as many.
    """
    from influcoder.teachers.checkpoints import Checkpoint

    found = [place for path in paths or [] for place in sorted(local(path), key=_counted) or [Path(path)]]
    most = length if isinstance(length, int) else max_length_of(length)
    return Checkpoint.read(found, base=decoder or "", max_length=most)


def max_length_of(provenance: "Provenance") -> int:
    """How many tokens of an example an earlier run read."""
    return provenance.decoder.max_length if provenance.decoder else 1024


def _counted(path: Path) -> list[tuple[int, str]]:
    """Sorts checkpoint-9 before checkpoint-10, as training saved them."""
    return [(int(part) if part.isdecimal() else -1, part) for part in re.split(r"(\d+)", str(path))]


def import_attribution(
    *,
    output: ResumableOutput,
    queries: Files,
    pool: Files,
    attribution: Attribution = NOT_GIVEN,
    decoder: str | None = None,
    adapter: str | None = None,
    reading: Reading = READ_AS_USUAL,
) -> None:
    """Bring your own attribution: features or scores of another tool become a features folder.

    Vectors are matched with the examples by id, or by order where neither file nor flag gives ids. Parquet files
    hold the column `id`, and numeric columns or one of lists. Features and gradients are kept as they are.

    Args:
        queries: the query examples: JSONL (.gz, .zst) or Parquet files, folders or globs
        pool: the same for the training examples
        decoder: the decoder whose table the static recipe reads; without it, distill with --recipe paper
        adapter: its LoRA adapter, if it had one
    """
    arguments = dict(locals())
    from influcoder.model.decoder import Decoder
    from influcoder.verbs import distill as verb

    refuse_without_decoder(decoder, adapter=adapter)
    found = attribution.read(reading.read(queries, "queries", output), reading.read(pool, "pool", output))
    loaded = Decoder.load(decoder, adapter=adapter) if decoder else None
    finish("import", arguments, verb.import_attribution(found, output.folder(arguments), loaded), output)
