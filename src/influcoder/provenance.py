"""What made a folder: decoder, teacher, data, student. Every folder records it, and whatever reads one compares it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from influcoder.errors import StoreMismatch

ROUNDING = ("precision", "token_budget")
"""settings of a teacher that change its features by rounding alone"""
IMPORTED = "imported"
"""the name of a teacher whose features or scores another tool computed"""


@dataclass(frozen=True, slots=True)
class DecoderRecord:
    """A decoder, by what changes its numbers.

    Attributes:
        decoder: SHA-256 of weights and config, a merged adapter's weights among them.
        tokenizer: SHA-256 of vocabulary, rules and chat template.
        max_length: tokens of an example that are read.
        decoder_parameters: how many it has.
        revision: commit of the hub.
        template_date: what the chat template is told where it asks for the date.
        remote_code: SHA-256 of Python code that came with it, and was run (--trust-remote-code).
        tokenizer_differs: how an adapter's own tokenizer, which is used, differs from its base's.
        optimizer: of a checkpoint: SHA-256 of the optimizer state that divides pool gradients.
        share: of a checkpoint: its weight among the checkpoints.
    """

    decoder: str
    tokenizer: str
    max_length: int = 1024
    decoder_parameters: int = 0
    revision: str | None = None
    template_date: str | None = None
    remote_code: str | None = None
    tokenizer_differs: str | None = None
    optimizer: str | None = None
    share: float | None = None


@dataclass(frozen=True, slots=True)
class TeacherRecord:
    """A teacher, with all its settings.

    Attributes:
        name: of the teacher; `IMPORTED` for another tool's.
        settings: every field of `TeacherSettings`; of an imported one what kind of file it came from.
        checkpoints: those that its gradients were taken at, if not at the decoder itself.
        fitted: SHA-256 of what it learnt from a sample.
        files: of an imported one, SHA-256 of each file by name.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    checkpoints: Sequence[DecoderRecord] = ()
    fitted: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StudentRecord:
    """How a student was distilled: recipe, seed, and the texts that a slower student labelled for it.

    Attributes:
        pool_as_queries: pool rows that were asked beside few queries.
        refreshed_from: fingerprint of the encoder that it was refreshed from, for a later state of the decoder.
        refresh_gradients: how many gradients that took.
    """

    recipe: str
    seed: int = 0
    pseudo_labels_by: str | None = None
    pseudo_queries: int = 0
    pseudo_pool: int = 0
    pool_as_queries: int | None = None
    refreshed_from: str | None = None
    refresh_gradients: int | None = None


@dataclass(frozen=True, slots=True)
class Provenance:
    """What made a folder; parts that did not take part are None.

    Attributes:
        data: fingerprint of the examples (`influcoder.data.columns.data_fingerprint`).
        queries: the same of the queries, where both sides took part.
        encoder: fingerprint of the encoder that embedded them.
        training: settings of a fine-tuning.

    >>> here = Provenance(teacher=TeacherRecord("gradient-cosine", {"rank": 64}), data="a")
    >>> there = Provenance(teacher=TeacherRecord("gradient-cosine", {"rank": 8}), data="b")
    >>> here.differences(there)
    ["data: 'a' there, 'b' now", 'teacher.settings.rank: 64 there, 8 now']
    >>> here.of_features().differences(there.of_features())
    ['teacher.settings.rank: 64 there, 8 now']
    """

    teacher: TeacherRecord | None = None
    decoder: DecoderRecord | None = None
    data: str | None = None
    queries: str | None = None
    student: StudentRecord | None = None
    encoder: str | None = None
    training: Mapping[str, Any] | None = None

    def differences(self, other: "Provenance") -> list[str]:
        """What differs in the other one, a line each: the name, this value, the other value."""
        return differences(self.json(), other.json())

    def refuse_other(self, other: "Provenance", what: str, remedy: str) -> None:
        """Refuse what is not made as this was.

        Raises:
            StoreMismatch: it differs; every difference is named with both values.
        """
        refuse_difference(what, self.json(), other.json(), remedy)

    def of_features(self, *, fitted: bool = True) -> "Provenance":
        """The part that two sets of features must share if their inner product is to mean anything.

        Args:
            fitted: what the teacher learnt too; without it, features of the same kind of influence.
        """
        teacher = self.teacher
        if teacher is not None:
            not_compared = teacher.settings if teacher.name == IMPORTED else ROUNDING  # only the kind of file it was
            settings = {name: value for name, value in teacher.settings.items() if name not in not_compared}
            teacher = replace(teacher, settings=settings, files={}, fitted=teacher.fitted if fitted else None)
        return Provenance(teacher=teacher, decoder=self.decoder)

    def json(self) -> dict[str, Any]:
        """As JSON keeps it; what is None or empty is left out."""
        return dict(_plain(self))

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> "Provenance":
        """From what `json` gave, or from the flat record that versions before 0.2 wrote."""
        if isinstance(record.get("teacher"), str) or isinstance(record.get("decoder"), str):
            record = _from_flat(record)
        parts = dict(record)
        if teacher := record.get("teacher"):
            checkpoints = tuple(_known(DecoderRecord, each) for each in teacher.get("checkpoints", ()))
            parts["teacher"] = _known(TeacherRecord, {**teacher, "checkpoints": checkpoints})
        for name, kind in (("decoder", DecoderRecord), ("student", StudentRecord)):
            if record.get(name):
                parts[name] = _known(kind, record[name])
        provenance: Provenance = _known(cls, parts)
        return provenance


def differences(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs in two records, a line each: the name, the earlier value, the one now."""
    before, after = dict(flat(earlier)), dict(flat(now))
    return [
        f"{key}: {before.get(key)!r} there, {after.get(key)!r} now"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def refuse_difference(
    what: str,
    earlier: Mapping[str, Any],
    now: Mapping[str, Any],
    remedy: str = "Use the same settings or give --overwrite.",
) -> None:
    """Compare two records.

    Raises:
        StoreMismatch: they differ; every differing key is named with both values.
    """
    if differing := differences(earlier, now):
        raise StoreMismatch(f"{what}: {'; '.join(differing)}. {remedy}")


def flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a nested record, each under its dotted name."""
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from flat(item, f"{prefix}{key}.")
        elif isinstance(item, list | tuple) and any(isinstance(each, Mapping) for each in item):
            yield from flat({str(place): each for place, each in enumerate(item)}, f"{prefix}{key}.")
        else:
            yield prefix + key, list(item) if isinstance(item, tuple) else item


def _plain(record: Any) -> Iterator[tuple[str, Any]]:
    for each in fields(record):
        value = getattr(record, each.name)
        if is_dataclass(value):
            value = dict(_plain(value))
        elif isinstance(value, Mapping):
            value = dict(value)
        elif isinstance(value, list | tuple):
            value = [dict(_plain(item)) if is_dataclass(item) else item for item in value]
        if value is not None and value not in ({}, []):
            yield each.name, value


def _known(kind: Any, record: Mapping[str, Any]) -> Any:
    """A record of some kind; what a later version added to it is left out."""
    return kind(**{each.name: record[each.name] for each in fields(kind) if each.name in record})


def _from_flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a version before 0.2, in which the fields of decoder, teacher and student stood side by side."""

    def among(kind: Any) -> dict[str, Any]:
        return {each.name: record[each.name] for each in fields(kind) if each.name in record}

    parts = {name: record[name] for name in ("data", "queries") if name in record}
    if "decoder" in record:
        parts["decoder"] = among(DecoderRecord)
    if "student_seed" in record:
        parts["student"] = {"recipe": "static"} | among(StudentRecord) | {"seed": record["student_seed"]}
    if "teacher" in record:
        teacher = {name: value for name, value in among(TeacherRecord).items() if name not in ("name", "settings")}
        named = {"teacher", "name", "student_seed", *teacher, *parts, *among(DecoderRecord), *among(StudentRecord)}
        settings = {name: value for name, value in record.items() if name == "seed" or name not in named}
        parts["teacher"] = teacher | {"name": record["teacher"], "settings": settings}
    return parts
