"""Which training examples push a language model towards an output, and which push it away.

    examples -> teacher features -> distilled encoder -> index -> search, select -> verify -> report

The names below are loaded when they are first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from influcoder.attribution import Hit, search
    from influcoder.decoder import Decoder
    from influcoder.distill import Sample, distil_static
    from influcoder.encoder import InfluenceEncoder
    from influcoder.errors import InflucoderError
    from influcoder.evaluation import evaluate
    from influcoder.examples import Example
    from influcoder.index import Index
    from influcoder.paper import distil_paper
    from influcoder.reading import read_examples
    from influcoder.selection import Selection
    from influcoder.teachers import Checkpoint, GradientTeacher, TeacherSettings, make_teacher

__version__ = "0.1.0"

_HOMES = {
    "Checkpoint": "teachers",
    "Decoder": "decoder",
    "Example": "examples",
    "GradientTeacher": "teachers",
    "Hit": "attribution",
    "Index": "index",
    "InflucoderError": "errors",
    "InfluenceEncoder": "encoder",
    "Sample": "distill",
    "Selection": "selection",
    "TeacherSettings": "teachers",
    "distil_paper": "paper",
    "distil_static": "distill",
    "evaluate": "evaluation",
    "make_teacher": "teachers",
    "read_examples": "reading",
    "search": "attribution",
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
    "distil_paper",
    "distil_static",
    "evaluate",
    "make_teacher",
    "read_examples",
    "search",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
