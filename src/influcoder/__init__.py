"""Which training examples push a language model towards an output, and which push it away.

    examples -> teacher features -> distilled encoder -> index -> search, select -> verify -> report

The names below are loaded when they are first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from influcoder.version import __version__ as __version__

if TYPE_CHECKING:
    from influcoder.attribution.search import Hit, search
    from influcoder.attribution.selection import Selection
    from influcoder.data.examples import Example
    from influcoder.data.reading import read_examples
    from influcoder.errors import InflucoderError
    from influcoder.evaluation.evaluate import evaluate
    from influcoder.indexes.index import Index
    from influcoder.model.decoder import Decoder
    from influcoder.student.distill import distill_static
    from influcoder.student.encoder import InfluenceEncoder
    from influcoder.student.paper import distill_paper
    from influcoder.student.sample import Sample
    from influcoder.teachers.checkpoints import Checkpoint
    from influcoder.teachers.gradient import GradientTeacher
    from influcoder.teachers.make import make_teacher
    from influcoder.teachers.settings import TeacherSettings

_HOMES = {
    "Checkpoint": "teachers.checkpoints",
    "Decoder": "model.decoder",
    "Example": "data.examples",
    "GradientTeacher": "teachers.gradient",
    "Hit": "attribution.search",
    "Index": "indexes.index",
    "InflucoderError": "errors",
    "InfluenceEncoder": "student.encoder",
    "Sample": "student.sample",
    "Selection": "attribution.selection",
    "TeacherSettings": "teachers.settings",
    "distill_paper": "student.paper",
    "distill_static": "student.distill",
    "evaluate": "evaluation.evaluate",
    "make_teacher": "teachers.make",
    "read_examples": "data.reading",
    "search": "attribution.search",
}

__all__ = [
    "Checkpoint",
    "Decoder",
    "Example",
    "GradientTeacher",
    "Hit",
    "Index",
    "InflucoderError",
    "InfluenceEncoder",
    "Sample",
    "Selection",
    "TeacherSettings",
    "distill_paper",
    "distill_static",
    "evaluate",
    "make_teacher",
    "read_examples",
    "search",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
