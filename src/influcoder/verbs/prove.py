"""The verb `prove`: train again without the rows that a search blames, and without other rows, and compare."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from influcoder.attribution.removal import CONTROLS, NAMED, control_rows, refuse_removal, removals, rows_of_ids
from influcoder.attribution.selection import Selection
from influcoder.data.columns import to_json
from influcoder.data.examples import Example
from influcoder.data.original import origin_of, restored_row
from influcoder.errors import ConfigError, StoreMismatch
from influcoder.evaluation.proof import ALL, FineTuning, Proof, Trainer, summarise
from influcoder.evaluation.proof import prove as train_and_ask
from influcoder.evaluation.train_command import TrainCommand, check_command
from influcoder.indexes.index import Index
from influcoder.indexes.original_rows import original_rows
from influcoder.model.finetune import FinetuneSettings
from influcoder.model.precision import Precision
from influcoder.store.files import atomic_write, write_json
from influcoder.store.output_folder import Folder, local_inputs
from influcoder.student.encoder import DECODER_TIERS
from influcoder.teachers.matrices import read_ids
from influcoder.teachers.teacher import Teacher
from influcoder.verbs.opening import (
    AnyCheckpoints,
    AnyDecoder,
    AnyIndex,
    Rows,
    open_any_index,
    open_decoder,
    open_teacher,
    open_whole_index,
    read_rows,
)
from influcoder.verbs.plan import duration, plan_trainings

NamedRows = str | Path | Sequence[str] | Selection
"""ids of rows, a file of them, or a selection, which names the rows that it does not keep"""
REMOVED = 20


def prove(
    index: AnyIndex,
    queries: Rows,
    output_dir: str | Path,
    *,
    decoder: AnyDecoder,
    remove: int | None = None,
    rows: NamedRows | None = None,
    controls: Sequence[str] = CONTROLS,
    seeds: int = 3,
    verify: int = 0,
    search_decoder: AnyDecoder | None = None,
    checkpoints: AnyCheckpoints | None = None,
    train_command: str | None = None,
    epochs: int = 2,
    learning_rate: float = 5e-4,
    rows_a_step: int = 8,
    precision: Precision = "auto",
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train again without the rows that a search blames for some queries, and see whether the model changes its mind.

    Models trained without as many other rows stand beside it: a removal proves something if it changes more.

    Args:
        index: its folder, or the loaded `Index`: its rows are what is trained on.
        queries: files, a list of rows or of `Example`s, or a `datasets.Dataset`: what was asked and answered.
        output_dir: a new or empty folder.
        decoder: the model before it was trained on the pool: a folder, hub id or `Decoder`.
        remove: how many rows are left out in all: the best hit of every query first, then the second of every query,
            and so on; 20 when omitted.
        rows: leave these out in place of those that a search blames: their ids, a file of ids (one a line, or a JSON
            list), or the rejected rows of a selection: a `Selection` or what `influcoder select` wrote.
        controls: what else is left out: "random" other rows, or the first rows by "tfidf", in the same way.
        seeds: how many times each is trained; a seed draws the order of the rows, and the random ones.
        verify: how many of the best candidates of a query real gradients re-score; 0 for none.
        search_decoder: the decoder that the encoder was distilled from: queries are then read by their own gradients.
        checkpoints: those that its teacher took gradients from, if any.
        train_command: trains in this package's place, such as "python train.py {data} {output}".
        epochs: passes over the rows.
        learning_rate: its peak.
        rows_a_step: rows of a step.
        precision: "auto" is bfloat16 where the processor has it.
        resume: go on with what a stopped run left in `output_dir`.
        overwrite: empty `output_dir` first.

    Returns:
        What metrics.json holds: under "conditions", the queries' mean loss and the share of changed answers for each
        set of rows that was left out, with intervals; under "proof" these shares alone.

    Raises:
        ConfigError: more is to be removed than the pool holds, a row is not there, or settings that do not go together.
        DataError: a query or a file of ids cannot be read.
        ModelError: a training fails.
        StoreMismatch: `output_dir` was begun with other settings.

    >>> import influcoder
    >>> metrics = influcoder.prove(
    ...     "index", "queries.jsonl", "proof", decoder="decoder", remove=5, controls=["random"], seeds=1, epochs=1
    ... )
    >>> list(metrics["conditions"]), sorted(metrics["proof"])
    (['all', 'found', 'random'], ['found', 'random'])
    """
    opened, _ = open_any_index(index)
    named = rows if isinstance(rows, str | Path) else None  # otherwise ids
    inputs = local_inputs(opened.folder, queries, decoder, search_decoder, named, checkpoints)
    return write_proof(
        opened,
        queries,
        Folder(Path(output_dir), resume, overwrite, inputs),
        decoder=decoder,
        remove=remove,
        rows=rows,
        controls=controls,
        seeds=seeds,
        verify=verify,
        search_decoder=search_decoder,
        checkpoints=checkpoints,
        train_command=train_command,
        settings=FinetuneSettings(epochs, learning_rate, rows_a_step, precision=precision),
    )[0]


def write_proof(
    index: AnyIndex,
    queries: Rows,
    folder: Folder,
    *,
    decoder: AnyDecoder,
    remove: int | None,
    rows: NamedRows | None,
    controls: Sequence[str],
    seeds: int,
    verify: int,
    search_decoder: AnyDecoder | None,
    checkpoints: AnyCheckpoints | None,
    train_command: str | None,
    settings: FinetuneSettings,
    tell: Callable[[str], None] = lambda cost: None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """`prove` into a folder: what metrics.json and answers.jsonl hold.

    Args:
        tell: given what the trainings will cost, before they begin.
    """
    if seeds < 1:
        raise ConfigError(f"--seeds is {seeds}, expected at least 1.")
    if train_command is not None:
        check_command(train_command)
    index = open_whole_index(index)
    named = None
    if rows is not None:
        if remove is not None or verify or search_decoder or checkpoints:
            raise ConfigError(
                "--rows names what is left out, so nothing is searched: leave --remove, --verify, --search-decoder and "
                "--checkpoints out."
            )
        named = rows_of_ids(index, _ids(rows, index))
    count = len(named) if named is not None else REMOVED if remove is None else remove
    refuse_removal(index, count, controls, verify, named=named is not None)
    base = open_decoder(decoder, None, index.encoder.provenance)
    examples = read_rows(queries, "queries", base)
    teacher = None if named else _teacher(index, search_decoder or (base if verify else None), checkpoints)
    with folder.claim() as path:
        if named:
            chosen = {NAMED: [named] * seeds, **control_rows(index, examples, named, controls, range(seeds))}
        else:
            chosen = removals(
                index, examples, count, controls=controls, seeds=range(seeds), verify=verify, teacher=teacher
            )
        pool = list(index.examples())
        originals = _original(index, pool)
        trainer: Trainer = FineTuning(base, pool, settings)
        if train_command is not None:
            trainer = TrainCommand(train_command, pool, originals, path / "trainings", base.max_length)
        proof = train_and_ask(
            trainer,
            examples,
            chosen,
            path,
            seeds=range(seeds),
            announce=lambda trainings: tell(_cost(trainer, [ALL, *chosen], seeds, trainings, examples)),
        )
        for condition, of_seeds in chosen.items():
            for seed, removed in enumerate(of_seeds):
                _write_lines(path / "removed" / f"{condition}-{seed}.jsonl", [originals[row] for row in removed])
        answers = _answers(examples, proof)
        _write_lines(path / "answers.jsonl", answers)
        numbers = summarise(proof)
        metrics = {
            "schema": 1,
            "removed": count,
            "queries": len(examples),
            "pool": len(pool),
            "seeds": list(range(seeds)),
            "conditions": numbers,
            "proof": {name: numbers[name]["changed"] for name in chosen},
        }
        write_json(path / "metrics.json", metrics)
    return metrics, answers


def _ids(rows: NamedRows, index: Index) -> list[str]:
    """The ids that are named."""
    if isinstance(rows, str | Path):
        path = Path(rows).expanduser()
        if not (path.is_dir() or path.suffix == ".parquet"):
            return read_ids(path)
        rows = Selection.load(path)
    if not isinstance(rows, Selection):
        return list(rows)
    rows.open_index(index)
    return [name for name, kept in zip(rows.ids, rows.is_kept, strict=True) if not kept]


def _teacher(index: Index, decoder: AnyDecoder | None, checkpoints: AnyCheckpoints | None) -> Teacher | None:
    """The teacher of an index's encoder, if the decoder is given that it was distilled from."""
    _, loaded = open_any_index(index, decoder, checkpoints=checkpoints)
    if loaded is None:
        if index.encoder.tier in DECODER_TIERS:
            raise ConfigError(
                f"{index.folder}: its encoder, of the {index.encoder.tier} tier, reads queries with the decoder that "
                "it was distilled from. Give that with --search-decoder."
            )
        return None
    return open_teacher(index.encoder, loaded, checkpoints)


def _original(index: Index, pool: Sequence[Example]) -> list[dict[str, Any]]:
    """The pool's rows in their own columns, or as prompt and completion where the index did not keep these."""
    try:
        return [row for batch in original_rows(index, np.ones(len(index), bool)) for row in batch]
    except StoreMismatch:
        return [restored_row(example, origin_of(example)) for example in pool]


def _cost(trainer: Trainer, conditions: Sequence[str], seeds: int, trainings: int, queries: Sequence[Example]) -> str:
    """How many trainings are still to do, and how long they take where that can be measured."""
    planned = f"{trainings} of {len(conditions) * seeds} trainings to do ({', '.join(conditions)}; {seeds} of each)"
    if not trainings:
        return "All trainings are done."
    if not isinstance(trainer, FineTuning):
        return f"{planned}. The first will show how long the command takes."
    plan = plan_trainings(trainer, len(trainer.pool), trainings, queries)
    rate = f"{plan['probe']['rows_per_second']:,.1f} rows/s, measured on {plan['probe']['rows']} rows"
    return f"{planned}: about {duration(plan['seconds'])} ({rate})."


def _answers(queries: Sequence[Example], proof: Proof) -> list[dict[str, Any]]:
    """The losses and answers of every query and seed under each condition."""
    return [
        {
            "id": query.id,
            "seed": seed,
            "prompt": query.prompt,
            "completion": query.completion,
            "answers": {condition: outcomes[seed].answers[place] for condition, outcomes in proof.items()},
            "losses": {condition: float(outcomes[seed].losses[place]) for condition, outcomes in proof.items()},
        }
        for place, query in enumerate(queries)
        for seed in range(len(proof[ALL]))
    ]


def _write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    atomic_write(path, b"".join(to_json(row) + b"\n" for row in rows))
