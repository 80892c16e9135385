"""A teacher's features of many examples, as stores."""

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from influcoder.data.columns import data_fingerprint, text_bytes, to_columns
from influcoder.data.examples import Example, Role
from influcoder.errors import ModelError
from influcoder.model.decoder import Decoder
from influcoder.progress import progress
from influcoder.provenance import Provenance
from influcoder.runners.runner import Advance, InProcess, Runner, refuse_given_up
from influcoder.runners.share import Share
from influcoder.store.codes import Plain, VectorCode
from influcoder.store.output_folder import remove_half_written
from influcoder.store.store import Store
from influcoder.store.writer import Shard, StoreWriter
from influcoder.teachers.checkpoints import Checkpoint
from influcoder.teachers.fitted import read_fitted
from influcoder.teachers.make import make_teacher
from influcoder.teachers.settings import TeacherSettings
from influcoder.teachers.teacher import Features, Teacher, remedy

SHARD_ROWS = 256
FACTS = 40
"""bytes that numbers and flags beside a vector take"""


@dataclass(frozen=True, slots=True)
class RoleExamples:
    """The examples of a role, and the folder of their store."""

    role: Role
    examples: Sequence[Example]
    folder: Path


@dataclass(frozen=True, slots=True)
class Part:
    """A shard of one side, and its examples."""

    role: Role
    shard: Shard
    examples: Sequence[Example]


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
    sides = [RoleExamples(role, examples, folder)]
    return write_sides(teacher, sides, max_reject_rate=max_reject_rate, share=share)[0]


def write_sides(
    teacher: Teacher,
    sides: Sequence[RoleExamples],
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
        if any(writer.missing()):
            stores.append(None)
            continue
        # Those of earlier runs and of others too.
        refuse_many(_rejected(writer), writer.rows, max_reject_rate, bf16=teacher.bf16)
        stores.append(writer.finish())
    return stores


def bytes_to_write(teacher: Teacher, examples: Sequence[Example], role: Role) -> int:
    """What the store of some examples takes on disk, about."""
    return round(len(examples) * (code_of(teacher, role).bytes + FACTS + text_bytes(examples)))


def code_of(teacher: Teacher, role: Role) -> VectorCode:
    """How the features of a role are stored."""
    return teacher.code if role == "pool" else Plain(teacher.dim)


def _writer(teacher: Teacher, side: RoleExamples) -> StoreWriter:
    return StoreWriter(
        side.folder.absolute(),
        kind="features",
        code=code_of(teacher, side.role),
        ids=[example.id for example in side.examples],
        provenance=replace(teacher.provenance, data=data_fingerprint(side.examples)),
        shard_rows=SHARD_ROWS,
    )


def _missing(sides: Sequence[RoleExamples], writers: Sequence[StoreWriter], share: Share) -> Iterator[Part]:
    for side, writer in zip(sides, writers, strict=True):
        for shard in writer.missing():
            if share.has(shard.number):
                yield Part(side.role, shard, side.examples[shard.start : shard.stop])


def _rejected(writer: StoreWriter) -> list[str]:
    names: list[str] = []
    for shard in writer.shards:
        table = pq.read_table(writer.folder / f"{shard.name}.parquet", columns=["id", "rejected"])
        names += table.filter(table["rejected"])["id"].to_pylist()
    return names


@dataclass(frozen=True)
class FeaturesJob:
    """Computes features and writes them into the store of their role.

    Attributes:
        teacher: what computes them. A worker loads its own from where this one came from.
        writers: the store of each role.
        max_reject_rate: the share of a side that may have no finite gradient.
        learnt: the folder in which workers find what the teacher learnt.
    """

    teacher: "Teacher | _Elsewhere"
    writers: Mapping[Role, StoreWriter]
    max_reject_rate: float
    learnt: Path

    def make(self) -> Callable[[Part, Advance], None]:
        """What computes and writes a part.

        Raises:
            StoreMismatch: the worker's decoder, or what else changes the numbers, is not that of the job.
            ModelError: (the function) too many gradients are not finite; the message names the first.
        """
        teacher = self.teacher.load() if isinstance(self.teacher, _Elsewhere) else self.teacher
        rejected: dict[Role, list[str]] = {role: [] for role in self.writers}

        def work(part: Part, advance: Advance) -> None:
            writer = self.writers[part.role]
            features = teacher.features(part.examples, part.role, advance)
            flagged = zip(part.examples, features.rejected, strict=True)
            rejected[part.role] += [example.id for example, is_rejected in flagged if is_rejected]
            refuse_many(rejected[part.role], writer.rows, self.max_reject_rate, bf16=teacher.bf16)
            _write(writer, part, features)

        return work

    def __getstate__(self) -> dict[str, Any]:
        """What travels to a worker: no model."""
        if isinstance(self.teacher, _Elsewhere):
            return vars(self)
        return vars(self) | {"teacher": _Elsewhere.of(self.teacher, self.learnt)}


@dataclass(frozen=True, slots=True)
class _Elsewhere:
    """How a worker comes by the same teacher."""

    decoder: Callable[[], Decoder]
    settings: TeacherSettings
    checkpoints: Sequence[Checkpoint]
    learnt: Path
    provenance: Provenance

    @classmethod
    def of(cls, teacher: Teacher, learnt: Path) -> "_Elsewhere":
        return cls(teacher.decoder.load_again, teacher.settings, teacher.checkpoints, learnt, teacher.provenance)

    def load(self) -> Teacher:
        teacher = make_teacher(self.decoder(), self.settings, checkpoints=self.checkpoints)
        if teacher.needs_fitting:
            teacher.load(read_fitted(self.learnt))
        what, remedy = f"the worker on {socket.gethostname()} has another teacher", "Give all machines the same files."
        self.provenance.refuse_other(teacher.provenance, what, remedy)
        return teacher


def refuse_many(rejected: Sequence[str], examples: int, max_reject_rate: float, *, bf16: bool) -> None:
    """Stop a job with too many rows that have no finite gradient.

    Raises:
        ModelError: there are; the message names the first.
    """
    if len(rejected) > max_reject_rate * examples:
        raise ModelError(
            f"{len(rejected)} of {examples} gradients are not finite, {rejected[0]!r} among them: more than "
            f"--max-reject-rate {max_reject_rate:g}. {remedy(bf16)}"
        )


def _write(writer: StoreWriter, part: Part, features: Features) -> None:
    lengths = np.linalg.norm(features.vectors, axis=1)
    # Unit rows fit half precision, whatever the size of the gradients; `scale` gives them back.
    vectors = features.vectors / np.maximum(lengths, 1e-30)[:, None]
    columns = {
        "norm": features.norms,
        "loss": features.losses,
        "scale": lengths,
        "rejected": features.rejected,
        **features.columns,
        **to_columns(part.examples),
    }
    writer.write(part.shard, vectors, columns)
