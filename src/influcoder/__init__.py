"""Which training examples push a language model towards an output, and which push it away.

    examples -> teacher features -> distilled encoder -> index -> search, select -> verify -> report

The names below are loaded when they are first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from influcoder.version import __version__ as __version__

if TYPE_CHECKING:
    from influcoder.api import distill, evaluate, features, index
    from influcoder.attribution.hits import Hit, Hits
    from influcoder.attribution.selection import Selection
    from influcoder.data.examples import Example
    from influcoder.data.reading import read_examples
    from influcoder.errors import InflucoderError
    from influcoder.indexes.index import Index
    from influcoder.live.callback import InfluenceCallback
    from influcoder.model.decoder import Decoder
    from influcoder.serve.client import Client
    from influcoder.student.distill import distill_static
    from influcoder.student.encoder import InfluenceEncoder
    from influcoder.student.features_folder import FeaturesFolder
    from influcoder.student.paper import distill_paper
    from influcoder.student.sample import Sample
    from influcoder.teachers.make import make_teacher
    from influcoder.teachers.settings import TeacherSettings
    from influcoder.verbs.drift import drift
    from influcoder.verbs.prove import prove
    from influcoder.verbs.score import score
    from influcoder.verbs.search import search
    from influcoder.verbs.select import select
    from influcoder.verbs.trace import trace

_HOMES = {
    "Client": "serve.client",
    "Decoder": "model.decoder",
    "Example": "data.examples",
    "FeaturesFolder": "student.features_folder",
    "Hit": "attribution.hits",
    "Hits": "attribution.hits",
    "Index": "indexes.index",
    "InflucoderError": "errors",
    "InfluenceCallback": "live.callback",
    "InfluenceEncoder": "student.encoder",
    "Sample": "student.sample",
    "Selection": "attribution.selection",
    "TeacherSettings": "teachers.settings",
    "distill": "api",
    "distill_paper": "student.paper",
    "distill_static": "student.distill",
    "drift": "verbs.drift",
    "evaluate": "api",
    "features": "api",
    "index": "api",
    "make_teacher": "teachers.make",
    "prove": "verbs.prove",
    "read_examples": "data.reading",
    "score": "verbs.score",
    "search": "verbs.search",
    "select": "verbs.select",
    "trace": "verbs.trace",
}

__all__ = [
    "Client",
    "Decoder",
    "Example",
    "FeaturesFolder",
    "Hit",
    "Hits",
    "Index",
    "InflucoderError",
    "InfluenceCallback",
    "InfluenceEncoder",
    "Sample",
    "Selection",
    "TeacherSettings",
    "distill",
    "distill_paper",
    "distill_static",
    "drift",
    "evaluate",
    "features",
    "index",
    "make_teacher",
    "prove",
    "read_examples",
    "score",
    "search",
    "select",
    "trace",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
