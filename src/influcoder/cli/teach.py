"""The verbs of the teacher, which defines influence: your decoder's gradients, or the results of another tool."""

from dataclasses import replace

from influcoder.cli.flags import (
    BY_ITSELF,
    NO_TRUST,
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
    Trust,
)
from influcoder.cli.output import finish, print_json


def features(
    *,
    output: ResumableOutput,
    decoder: str,
    queries: Files,
    pool: Files,
    adapter: str | None = None,
    trust: Trust = NO_TRUST,
    checkpoints: Files | None = None,
    teaching: Teaching = PAPERS_TEACHER,
    max_length: int = 1024,
    sample: int | None = None,
    running: Running = BY_ITSELF,
    seed: Seed = 0,
    reading: Reading = READ_AS_USUAL,
) -> None:
    """Compute the teacher's features of queries and pool: one gradient per example.

    --workers N divides a machine's cores among N processes, --ray gives the shards to a Ray cluster. Several machines
    share a job when on each it is started with its own --shard I/N and the same output folder (Slurm arrays), or all of
    them by `torchrun --nproc-per-node N -m influcoder features ...` (on GPUs `accelerate launch` as well).

    Args:
        decoder: the model whose training is attributed: Hugging Face folder or hub id of a causal LM
        queries: JSONL (.gz, .zst) or Parquet files, folders or globs
        pool: the same for the training examples
        adapter: a PEFT LoRA adapter of the decoder
        checkpoints: folders that its training saved, for less and tracin; weighted by their learning rates
        max_length: tokens of an example that are read
        sample: how many pool rows to draw by the seed; all of them when omitted
    """
    arguments = dict(locals())
    from influcoder.runners.share import Share
    from influcoder.verbs import features as verb
    from influcoder.verbs.opening import open_checkpoints, open_decoder

    settings, share, runner = teaching.settings(seed), Share.read(running.shard), running.runner()
    loaded = open_decoder(decoder, adapter, max_length, share.device())
    metrics = verb.features(
        loaded,
        reading.read(queries, "queries", output, loaded),
        reading.stream(pool, "pool", output, loaded),
        replace(output.folder(arguments), share=share),
        settings,
        checkpoints=open_checkpoints(checkpoints, decoder, max_length),
        max_length=max_length,
        sample=sample,
        max_reject_rate=reading.max_reject_rate,
        runner=runner,
    )
    finish("features", arguments, metrics, output)


def self_check(
    *,
    decoder: str,
    queries: Files,
    pool: Files,
    adapter: str | None = None,
    trust: Trust = NO_TRUST,
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
    from influcoder.report.teacher_tables import print_check
    from influcoder.teachers.check import check_teacher
    from influcoder.verbs.opening import open_checkpoints, open_decoder

    settings = teaching.settings(seed)
    loaded = open_decoder(decoder, adapter, max_length)
    saved = open_checkpoints(checkpoints, decoder, max_length)
    query_examples, pool_examples = (read_examples(files, prepare=loaded.prepare) for files in (queries, pool))
    metrics = check_teacher(loaded, query_examples, pool_examples, settings, saved)
    if json:
        print_json(metrics)
    else:
        print_check(settings.name, metrics)


def teachers() -> None:
    """List the teachers that --teacher names."""
    from influcoder.report.teacher_tables import print_teachers

    print_teachers()


def import_attribution(
    *,
    output: ResumableOutput,
    queries: Files,
    pool: Files,
    attribution: Attribution = NOT_GIVEN,
    decoder: str | None = None,
    adapter: str | None = None,
    trust: Trust = NO_TRUST,
    reading: Reading = READ_AS_USUAL,
) -> None:
    """Import the attribution of another tool: its features or scores become a features folder.

    Vectors are matched with the examples by id, or by order if neither file nor flag gives ids. Parquet files
    have the column `id`, and numeric columns or one of lists. Features and gradients are kept as they are.

    Args:
        queries: the query examples: JSONL (.gz, .zst) or Parquet files, folders or globs
        pool: the same for the training examples
        decoder: the decoder whose table the static recipe reads; without it, distill with --recipe paper
        adapter: its LoRA adapter, if it had one
    """
    arguments = dict(locals())
    from influcoder.model.decoder import Decoder
    from influcoder.verbs import distill as verb
    from influcoder.verbs.opening import refuse_without_decoder

    refuse_without_decoder(decoder, adapter=adapter)
    imported = attribution.read(reading.read(queries, "queries", output), reading.read(pool, "pool", output))
    loaded = Decoder.load(decoder, adapter=adapter) if decoder else None
    finish("import", arguments, verb.import_attribution(imported, output.folder(arguments), loaded), output)
