"""The features of a shard as a job for whoever does it: this process, a worker beside it, another machine."""

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from influcoder.decoder import Decoder
from influcoder.errors import ModelError
from influcoder.examples import Example, to_columns
from influcoder.runners import Advance
from influcoder.store import Shard, StoreWriter, refuse_difference
from influcoder.teachers.checkpoints import Checkpoint
from influcoder.teachers.features import Features, Role, Teacher
from influcoder.teachers.learnt import read_fitted
from influcoder.teachers.make import make_teacher
from influcoder.teachers.settings import TeacherSettings


@dataclass(frozen=True, slots=True)
class Part:
    """A shard of one side, and its examples."""

    role: Role
    shard: Shard
    examples: Sequence[Example]


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
            found = teacher.features(part.examples, part.role, advance)
            rejected[part.role] += [one.id for one, bad in zip(part.examples, found.rejected, strict=True) if bad]
            refuse_many(rejected[part.role], len(writer.ids), self.max_reject_rate)
            _write(writer, part, found)

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
    made_by: Mapping[str, Any]

    @classmethod
    def of(cls, teacher: Teacher, learnt: Path) -> "_Elsewhere":
        return cls(teacher.decoder.again, teacher.settings, teacher.checkpoints, learnt, teacher.made_by)

    def load(self) -> Teacher:
        teacher = make_teacher(self.decoder(), self.settings, checkpoints=self.checkpoints)
        if teacher.needs_fitting:
            teacher.load(read_fitted(self.learnt))
        what, remedy = f"the worker on {socket.gethostname()} has another teacher", "Give all machines the same files."
        refuse_difference(what, self.made_by, teacher.made_by, remedy)
        return teacher


def refuse_many(rejected: Sequence[str], examples: int, max_reject_rate: float) -> None:
    """Stop a job with too many rows that have no finite gradient.

    Raises:
        ModelError: there are; the message names the first.
    """
    if len(rejected) > max_reject_rate * examples:
        raise ModelError(
            f"{len(rejected)} of {examples} gradients are not finite, {rejected[0]!r} among them: more than "
            f"--max-reject-rate {max_reject_rate:g}. Use --precision fp32, or leave these rows out."
        )


def _write(writer: StoreWriter, part: Part, found: Features) -> None:
    lengths = np.linalg.norm(found.vectors, axis=1)
    # Unit rows fit half precision, whatever the size of the gradients; `scale` gives them back.
    vectors = found.vectors / np.maximum(lengths, 1e-30)[:, None]
    columns = {
        "norm": found.norms,
        "loss": found.losses,
        "scale": lengths,
        "rejected": found.rejected,
        **found.columns,
        **to_columns(part.examples),
    }
    writer.write(part.shard, vectors, columns)
