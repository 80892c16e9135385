"""From settings to a teacher."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from influcoder.errors import ConfigError, StoreMismatch
from influcoder.model.decoder import Decoder
from influcoder.store.store import refuse_difference
from influcoder.teachers.checkpoints import Checkpoint
from influcoder.teachers.forward import ForwardTeacher
from influcoder.teachers.gradient import GradientTeacher
from influcoder.teachers.settings import FORWARD, TeacherSettings
from influcoder.teachers.teacher import Teacher


def make_teacher(
    decoder: Decoder, settings: TeacherSettings | None = None, *, checkpoints: Sequence[Checkpoint] = ()
) -> Teacher:
    """The teacher that `settings` describe.

    Raises:
        ConfigError: checkpoints were given to one that takes none, or are missing.
    """
    settings = settings or TeacherSettings()
    if settings.source not in FORWARD:
        return GradientTeacher(decoder, settings, checkpoints=checkpoints)
    if checkpoints:
        raise ConfigError(f"{settings.name} takes one model, {len(checkpoints)} checkpoints were given.")
    return ForwardTeacher(decoder, settings)


def teacher_again(
    made_by: Mapping[str, Any],
    state: Mapping[str, Tensor],
    decoder: Decoder,
    *,
    checkpoints: Sequence[Checkpoint] = (),
    what: str = "the encoder was distilled",
) -> Teacher:
    """The teacher that `made_by` records.

    Args:
        state: what it learnt, where it learns anything.
        what: what is refused when the decoder is another one; begins the message.

    Raises:
        StoreMismatch: decoder, tokenizer or checkpoints are not those it was made with.
        ConfigError: the attribution was imported, or is of checkpoints and none are given.
    """
    if made_by.get("teacher") == "imported":
        raise ConfigError(f"{what} from imported attribution, which no decoder here can compute. Leave --decoder out.")
    for key in ("decoder", "tokenizer"):
        expected, found = made_by.get(key, "unknown"), decoder.fingerprint[key]
        if expected != found:
            raise StoreMismatch(
                f"{what} from a decoder with {key} {expected[:12]}, {decoder.name} has {found[:12]}. "
                "Give that decoder, or make features and encoder with this one."
            )
    if "checkpoints" in made_by and not checkpoints:
        raise ConfigError(
            f"{what} from {len(made_by['checkpoints'])} checkpoints of a training run. Name them with --checkpoints."
        )
    teacher = make_teacher(decoder, TeacherSettings.read(made_by), checkpoints=checkpoints)
    if checkpoints:
        there, now = (
            {"checkpoints": dict(enumerate(one.get("checkpoints", ())))} for one in (made_by, teacher.made_by)
        )
        refuse_difference(f"{what} from other checkpoints", there, now, "Name those with --checkpoints.")
    if teacher.needs_fitting:
        teacher.load(state)
    return teacher
