"""A teacher's features of many examples, as stores."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from influcoder.atomic import remove_half_written
from influcoder.examples import Example, data_fingerprint
from influcoder.progress import progress
from influcoder.room import text_bytes
from influcoder.runners import InProcess, Runner, Share, refuse_given_up
from influcoder.store import Store, StoreWriter
from influcoder.teachers.features import Role, Teacher
from influcoder.teachers.job import FeaturesJob, Part, refuse_many

SHARD_ROWS = 256
FACTS = 40
"""bytes that numbers and flags beside a vector take"""


@dataclass(frozen=True, slots=True)
class Side:
    """The examples of a role, and the folder of their store."""

    role: Role
    examples: Sequence[Example]
    folder: Path


def write_features(
    teacher: Teacher,
    examples: Sequence[Example],
    role: Role,
    folder: Path,
    *,
    max_reject_rate: float = 0.01,
    share: Share = Share(),  # noqa: B008 - frozen
) -> Store | None:
    """Write the features of `examples` as a store, in this process. See `write_sides`."""
    sides = [Side(role, examples, folder)]
    return write_sides(teacher, sides, max_reject_rate=max_reject_rate, share=share)[0]


def write_sides(
    teacher: Teacher,
    sides: Sequence[Side],
    *,
    max_reject_rate: float = 0.01,
    share: Share = Share(),  # noqa: B008 - frozen
    runner: Runner = InProcess(),  # noqa: B008 - holds nothing
) -> list[Store | None]:
    """Write the features of some sides as stores; goes on where an earlier run stopped.

    Args:
        max_reject_rate: rows whose gradient is not finite are kept as zeros, flagged, and left out by readers;
            above this share of them the job stops.
        share: which shards are this process's to make. A store is returned by the one that finds it complete.
        runner: who makes them. Workers take what the teacher learnt from the folder above the stores.

    Raises:
        ModelError: too many gradients are not finite; the message names the first.
        WorkerError: some shards were given up; all others are there.
    """
    writers = [_writer(teacher, side) for side in sides]
    parts = list(_missing(sides, writers, share))
    job = FeaturesJob(
        teacher,
        {side.role: writer for side, writer in zip(sides, writers, strict=True)},
        max_reject_rate,
        sides[0].folder.absolute().parent,
    )
    with progress("features", sum(len(part.examples) for part in parts)) as advance:
        failed = runner.run(job, parts, advance) if parts else []
    if share.count == 1:
        for side in sides:
            remove_half_written(side.folder)  # of workers that were killed
    refuse_given_up(
        failed,
        lambda part: job.writers[part.role].folder / part.shard.name,
        "fewer --workers or a smaller --token-budget",
        len(parts),
    )
    stores: list[Store | None] = []
    for writer in writers:
        if any(True for _ in writer.missing()):
            stores.append(None)
            continue
        refuse_many(_rejected(writer), len(writer.ids), max_reject_rate)  # those of earlier runs and of others too
        stores.append(writer.finish())
    return stores


def bytes_to_write(teacher: Teacher, examples: Sequence[Example], role: Role) -> int:
    """What the store of some examples takes on disk, about."""
    vector = teacher.bytes_per_example if role == "pool" else 2 * teacher.dim
    return round(len(examples) * (vector + FACTS + text_bytes(examples)))


def _writer(teacher: Teacher, side: Side) -> StoreWriter:
    return StoreWriter(
        side.folder.absolute(),
        kind="features",
        dim=teacher.dim,
        dtype="float16",
        ids=[example.id for example in side.examples],
        made_by=teacher.made_by | {"data": data_fingerprint(side.examples)},
        shard_rows=SHARD_ROWS,
        code=teacher.code if side.role == "pool" else None,
    )


def _missing(sides: Sequence[Side], writers: Sequence[StoreWriter], share: Share) -> Iterator[Part]:
    for side, writer in zip(sides, writers, strict=True):
        for shard in writer.missing():
            if share.has(shard.number):
                yield Part(side.role, shard, side.examples[shard.start : shard.stop])


def _rejected(writer: StoreWriter) -> list[str]:
    found: list[str] = []
    for shard in writer.shards:
        table = pq.read_table(writer.folder / f"{shard.name}.parquet", columns=["id", "rejected"])
        found += table.filter(table["rejected"])["id"].to_pylist()
    return found
