"""From settings to a teacher."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from influcoder.errors import ConfigError, StoreMismatch
from influcoder.model.decoder import Decoder
from influcoder.provenance import IMPORTED, DecoderRecord, Provenance, TeacherRecord
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

    >>> from influcoder import Decoder, Example, TeacherSettings
    >>> teacher = make_teacher(Decoder.load("decoder"), TeacherSettings.named("layer-cosine", rank=4, width=512))
    >>> teacher.features([Example("a", "Two plus two is ", "four")], "query").vectors.shape
    (1, 512)
    """
    settings = settings or TeacherSettings()
    if settings.source not in FORWARD:
        return GradientTeacher(decoder, settings, checkpoints=checkpoints)
    if checkpoints:
        raise ConfigError(f"{settings.name} takes one model, {len(checkpoints)} checkpoints were given.")
    return ForwardTeacher(decoder, settings)


def teacher_again(
    provenance: Provenance,
    state: Mapping[str, Tensor],
    decoder: Decoder,
    *,
    checkpoints: Sequence[Checkpoint] = (),
    what: str = "the encoder was distilled",
) -> Teacher:
    """The teacher that `provenance` records.

    Args:
        state: what it learnt, where it learns anything.
        what: what is refused when the decoder is another one; begins the message.

    Raises:
        StoreMismatch: decoder, tokenizer or checkpoints are not those it was made with.
        ConfigError: the attribution was imported, or is of checkpoints and none are given.
    """
    record = provenance.teacher
    if record is None or record.name == IMPORTED:
        raise ConfigError(f"{what} from imported attribution, which no decoder here can compute. Leave --decoder out.")
    _refuse_other_decoder(provenance.decoder, decoder, what)
    if record.checkpoints and not checkpoints:
        raise ConfigError(
            f"{what} from {len(record.checkpoints)} checkpoints of a training run. Name them with --checkpoints."
        )
    teacher = make_teacher(decoder, TeacherSettings.read(record), checkpoints=checkpoints)
    if checkpoints:
        there, now = (
            Provenance(teacher=TeacherRecord(record.name, checkpoints=each.checkpoints))
            for each in (record, teacher.provenance.teacher or record)
        )
        there.refuse_other(now, f"{what} from other checkpoints", "Name those with --checkpoints.")
    if teacher.needs_fitting:
        teacher.load(state)
    return teacher


def teacher_now(provenance: Provenance, state: Mapping[str, Tensor], decoder: Decoder) -> Teacher:
    """The teacher that `provenance` records, at a later state of its model: what it learnt is kept.

    Raises:
        StoreMismatch: the decoder is no state of that model: other sizes, or another tokenizer.
        ConfigError: the attribution was imported, or is of checkpoints.
    """
    record, then, now = provenance.teacher, provenance.decoder, decoder.fingerprint
    if record is None or then is None or record.name == IMPORTED:
        raise ConfigError(
            "the encoder was distilled from imported attribution, which no decoder here can compute. Import features "
            "or scores of the new model, and judge the encoder by them with `influcoder evaluate`."
        )
    if record.checkpoints:
        raise ConfigError(
            f"the encoder's teacher takes its gradients at {len(record.checkpoints)} checkpoints of a training run, "
            "and a new decoder has none of them. Compute features with the new checkpoints and distill again."
        )
    for what, expected, found in (
        ("tokenizer", then.tokenizer[:12], now.tokenizer[:12]),
        ("number of parameters", then.decoder_parameters, now.decoder_parameters),
    ):
        if expected and expected != found:  # an earlier version counted no parameters
            raise StoreMismatch(
                f"the encoder was distilled from a decoder with {what} {expected}, {decoder.name} has {found}: it is "
                "another model, not a later state of that one. Compute its features and distill an encoder for it."
            )
    teacher = make_teacher(decoder, TeacherSettings.read(record))
    if teacher.needs_fitting:
        teacher.load(state)
    return teacher


def _refuse_other_decoder(record: DecoderRecord | None, decoder: Decoder, what: str) -> None:
    for name in ("decoder", "tokenizer"):
        expected, found = getattr(record, name, "unknown"), getattr(decoder.fingerprint, name)
        if expected != found:
            raise StoreMismatch(
                f"{what} from a decoder with {name} {expected[:12]}, {decoder.name} has {found[:12]}. "
                "Give that decoder, or make features and encoder with this one."
            )
