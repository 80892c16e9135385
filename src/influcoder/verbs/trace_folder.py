"""The folder of `trace`: what it holds, and whether another call may resume in it.

trace.json                    what was decided before the work began
questions.parquet             the questions that the features were made with
features/, encoder/, index/   as the verbs of these names write them
asked.jsonl, answers.json     the last questions, as other verbs read them, and their answers
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from influcoder.data.columns import data_fingerprint, from_columns, to_columns, to_json
from influcoder.data.examples import Example
from influcoder.data.original import row_of
from influcoder.data.row_files import find_files
from influcoder.errors import StoreError, some_of
from influcoder.provenance import refuse_difference
from influcoder.store.files import atomic_write, read_sealed, sha256, write_json, write_sealed
from influcoder.store.store import Store
from influcoder.student.effort import Effort
from influcoder.teachers.memorised import memorised
from influcoder.verbs.opening import Rows, stream_rows
from influcoder.verbs.plan import TracePlan

FORMAT = 2
RECORD, QUESTIONS, ASKED, ANSWERS = "trace.json", "questions.parquet", "asked.jsonl", "answers.json"


def pool_fingerprint(pool: Rows) -> str:
    """SHA-256 of a pool's files, or of its rows if it is in memory; of URLs only the names."""
    places = [pool] if isinstance(pool, str | Path) else pool
    if isinstance(places, list) and places and all(isinstance(place, str | Path) for place in places):
        files = [file for place in places for file in find_files(place)]
        names = [sha256(file) if isinstance(file, Path) else str(file) for file in files]
        return data_fingerprint([Example(name, "", "") for name in names])
    return data_fingerprint(list(stream_rows(pool, "pool")))


def refuse_other(path: Path, made: Mapping[str, Any], sample: int | None) -> None:
    """Refuse a folder that is neither empty nor made as this call would make it.

    Raises:
        StoreError: it holds something else.
        StoreMismatch: it was made with another decoder, pool, teacher, seed or sample.
    """
    if not (path / RECORD).exists():
        names = [entry.name for entry in path.iterdir() if not entry.name.startswith(".")]
        if names:
            raise StoreError(
                f"{path}: holds {some_of(names)} and no {RECORD}, so it is no folder of `influcoder trace`. Choose "
                "another --output-dir, or give --overwrite."
            )
        return
    record = read_sealed(path / RECORD, FORMAT)
    expected = {**made, "sample": record["sample"] if sample is None else min(sample, record["rows"])}
    refuse_difference(
        f"{path}: made otherwise",
        {name: record.get(name) for name in expected},
        expected,
        "Give the same decoder and pool, another --output-dir, or --overwrite.",
    )


def write_plan(path: Path, made: Mapping[str, Any], plan: TracePlan, questions: Sequence[Example]) -> None:
    """Write the plan, and the questions that the encoder learns from."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": [question.id for question in questions], **to_columns(questions)}), sink)
    atomic_write(path / QUESTIONS, sink.getvalue().to_pybytes())
    write_sealed(path / RECORD, {"format": FORMAT, **made, **asdict(plan)})


def read_plan(path: Path) -> tuple[TracePlan, list[Example]] | None:
    """What `write_plan` wrote; None where there is none."""
    if not (path / RECORD).exists():
        return None
    record = read_sealed(path / RECORD, FORMAT)
    plan = {each.name: record[each.name] for each in fields(TracePlan)} | {"effort": Effort(**record["effort"])}
    return TracePlan(**plan), [from_columns(row) for row in pq.read_table(path / QUESTIONS).to_pylist()]


def write_answers(path: Path, questions: Sequence[Example], answers: Sequence[Mapping[str, Any]]) -> None:
    """Write the last questions and their answers."""
    atomic_write(path / ASKED, b"".join(to_json(row_of(question)) + b"\n" for question in questions))
    write_json(path / ANSWERS, {"answers": answers})


def memorised_ids(path: Path) -> frozenset[str]:
    """The ids of the sample's rows that the model has memorised."""
    columns = Store(path / "features" / "pool", lazily=True).columns
    rows = memorised(columns["loss"].to_numpy(), columns["norm"].to_numpy())
    return frozenset(columns.filter(pa.array(rows))["id"].to_pylist())
