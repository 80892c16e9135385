"""The verb `plan JOB`: the cost of a long job, before it begins."""

from pathlib import Path
from typing import Any, Literal

import cyclopts

from influcoder.cli.flags import NO_TRUST, PAPERS_TEACHER, READ_AS_USUAL, Files, Flag, Reading, Seed, Teaching, Trust
from influcoder.cli.output import print_json

plans = cyclopts.App(name="plan", help_format="markdown")


@plans.command
def features(
    *,
    decoder: str,
    queries: Files,
    pool: Files,
    output_dir: Path = Path(),
    adapter: str | None = None,
    trust: Trust = NO_TRUST,
    checkpoints: Files | None = None,
    teaching: Teaching = PAPERS_TEACHER,
    max_length: int = 1024,
    seed: Seed = 0,
    reading: Reading = READ_AS_USUAL,
    json: Flag = False,
) -> None:
    """Estimate what `influcoder features` with the same flags takes; exit status 1 if the disk is too small.

    Args:
        decoder: Hugging Face folder or hub id of a causal LM
        queries: JSONL (.gz, .zst) or Parquet files, folders or globs
        pool: the same for the training examples
        output_dir: where the job would write
        adapter: a PEFT LoRA adapter of the decoder
        checkpoints: folders that its training saved, for less and tracin
        max_length: tokens of an example that are read
        json: print the numbers as JSON
    """
    from influcoder.data.preview import preview
    from influcoder.teachers.make import make_teacher
    from influcoder.verbs.opening import open_checkpoints, open_decoder
    from influcoder.verbs.plan import plan_features
    from influcoder.verbs.probe import FEATURE_PROBE

    loaded = open_decoder(decoder, adapter, max_length)
    columns = reading.columns()
    query_preview, pool_preview = (
        preview(files, FEATURE_PROBE, columns=columns, seed=seed, prepare=loaded.prepare) for files in (queries, pool)
    )
    saved = open_checkpoints(checkpoints, decoder, max_length)
    teacher = make_teacher(loaded, teaching.settings(seed), checkpoints=saved)
    _print_plan(plan_features(teacher, query_preview, pool_preview), output_dir, json)


@plans.command
def index(
    *,
    encoder: str,
    pool: Files,
    output_dir: Path = Path(),
    code: Literal["auto", "float16", "int8", "int4"] = "auto",
    approximate: Flag = False,
    decoder: str | None = None,
    adapter: str | None = None,
    trust: Trust = NO_TRUST,
    checkpoints: Files | None = None,
    seed: Seed = 0,
    reading: Reading = READ_AS_USUAL,
    json: Flag = False,
) -> None:
    """Estimate what `influcoder index` takes, and the exact teacher in its place; exit 1 if the disk is too small.

    Args:
        encoder: what `influcoder distill` wrote, or its hub id
        pool: JSONL (.gz, .zst) or Parquet files, folders or globs
        output_dir: where the job would write
        code: how vectors are stored; auto: in as few bytes as keep the rankings of some rows
        approximate: an IVF-PQ index as well
        decoder: the decoder the encoder was distilled from, for the exact teacher's cost and the forward tier
        adapter: its LoRA adapter, if it had one
        checkpoints: those the teacher took its gradients from, if it did
        json: print the numbers as JSON
    """
    from influcoder.data.preview import preview
    from influcoder.verbs.opening import open_encoder, open_teacher
    from influcoder.verbs.plan import INDEX_PROBE, plan_index

    loaded, model = open_encoder(encoder, decoder, adapter, checkpoints=checkpoints)
    teacher = None if model is None else open_teacher(loaded, model, checkpoints)
    prepare = model.prepare if model else None
    pool_preview = preview(pool, INDEX_PROBE, columns=reading.columns(), seed=seed, prepare=prepare)
    _print_plan(plan_index(loaded, pool_preview, teacher, code=code, approximate=approximate), output_dir, json)


def _print_plan(plan: dict[str, Any], output_dir: Path, json: bool) -> None:
    from influcoder.store.disk_space import free_bytes, refuse_full_disk
    from influcoder.verbs.plan import plan_in_words

    free = free_bytes(output_dir)
    if json:
        print_json(plan | {"free_bytes": free})
    else:
        print(plan_in_words(plan, free))  # noqa: T201
    refuse_full_disk(output_dir, plan["disk_bytes"])
