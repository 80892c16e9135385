"""From settings to a teacher."""

from collections.abc import Sequence

from influcoder.decoder import Decoder
from influcoder.errors import ConfigError
from influcoder.teachers.checkpoints import Checkpoint
from influcoder.teachers.features import Teacher
from influcoder.teachers.forward import ForwardTeacher
from influcoder.teachers.gradient import GradientTeacher
from influcoder.teachers.settings import FORWARD, TeacherSettings


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
