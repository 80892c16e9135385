"""Every method that benchmarks compare, by name: words, teachers, rivals, students.

A task lists the names that it compares; `scored.score_methods` makes them from a `Bench` and scores with them.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from influcoder.benchmarks.methods.airrep import GroupStudent
from influcoder.benchmarks.methods.bench import PSEUDO, Bench
from influcoder.benchmarks.methods.rivals import (
    Cascade,
    Length,
    PointwiseRegressor,
    RowLoss,
    first_layers,
    with_shuffled_weights,
)
from influcoder.benchmarks.settings import EXACT
from influcoder.errors import ConfigError, some_of
from influcoder.evaluation.methods import STANDARD, Method, Need, student_methods
from influcoder.evaluation.scorers import Scorer, TeacherScorer
from influcoder.model.decoder import Decoder
from influcoder.model.finetune import finetune
from influcoder.student.encoder import DECODER_TIERS
from influcoder.teachers.make import make_teacher
from influcoder.teachers.settings import TEACHERS, TeacherSettings

SHUFFLED = "randomised"
"""the exact teacher on shuffled weights: sanity checks compare the two"""
ALWAYS = ("random", EXACT, SHUFFLED)
"""what gains, costs and sanity checks are computed from"""


def _teacher(name: str, bench: Bench) -> Scorer:
    return TeacherScorer(bench.teacher(name), name)


def _paper_teacher(name: str, decoder: Decoder, bench: Bench) -> Scorer:
    return TeacherScorer(make_teacher(decoder, TeacherSettings(seed=bench.seed)), name)


def _proxy(bench: Bench) -> Scorer:
    """The paper's teacher on a decoder of half the depth, trained on the same rows."""
    return _paper_teacher("proxy", finetune(first_layers(bench.base), bench.trained_on, bench.tuning), bench)


def _shuffled(bench: Bench) -> Scorer:
    return _paper_teacher(SHUFFLED, with_shuffled_weights(bench.model, bench.seed), bench)


def _groups(bench: Bench) -> Scorer:
    tuning, folder = replace(bench.tuning, epochs=1, rows_a_step=8), bench.folder / "groups"
    return GroupStudent(bench.read, bench.seed).fit(bench.base, bench.all_samples(), folder, tuning)


def _regressor(bench: Bench) -> Scorer:
    return PointwiseRegressor(bench.read, bench.teacher(), bench.problem.queries).fit(*bench.samples())


def _cascade(bench: Bench) -> Scorer:
    return Cascade(bench.student("static"), bench.teacher(), one_question=bench.problem.one_question)


_TIERS = student_methods(PSEUDO, "unlabelled") | {
    name: method for tier in DECODER_TIERS for name, method in student_methods(tier).items()
}
METHODS: dict[str, Method] = {
    **STANDARD,
    **{name: Method(partial(_teacher, name), ("adapter",) if name == "adapter" else ()) for name in TEACHERS},
    "length": Method(lambda bench: Length(bench.model)),
    "row-loss": Method(lambda bench: RowLoss(bench.model)),
    "proxy": Method(_proxy),
    SHUFFLED: Method(_shuffled),
    "airrep": Method(_groups, ("training",)),
    "mates": Method(_regressor, ("training",)),
    **_TIERS,
    "cascade": Method(_cascade, ("training",), costed_by=("influcoder",)),
}

MODEL_METHODS = (
    *("random", "tfidf", "bm25", "length", "row-loss"),
    *TEACHERS,
    *("proxy", SHUFFLED, "untrained", "paper-recipe", "airrep", "mates", "surface"),
    *("influcoder", "influcoder-exact-query"),
    *sorted(_TIERS, key=lambda name: name.endswith("-exact-query")),
    "cascade",
)
"""every method that scores a fine-tuned model: what the causal benchmark compares"""
TASK_METHODS = tuple(
    name
    for name in MODEL_METHODS
    if name not in ("tracin", "logra-raw", "rrinf", "kfac", "kfac-cosine", "centred-cosine", "length", "row-loss")
)
"""what the other tasks compare: all but those that the causal benchmark shows beside their relatives"""

REASONS: dict[Need, str] = {
    "adapter": "the decoder is fine-tuned whole; this teacher is of a LoRA adapter",
    "backbone": "no --backbone was given",
    "training": "there is no training split to learn from",
    "unlabelled": "there is no unlabelled text to learn from",
}
"""why a method is left out, by what a bench lacks for it"""


def with_needed(names: Sequence[str] | None, compared: Sequence[str], teacher: str = EXACT) -> tuple[str, ...]:
    """The named methods, all that a task compares when None, and those that they are compared with.

    Raises:
        ConfigError: there is no such method or teacher, or the teacher is of an adapter, which no benchmark trains.

    >>> with_needed(["tfidf"], TASK_METHODS)
    ('random', 'tfidf', 'gradient-cosine', 'randomised')
    >>> with_needed(["cascade"], TASK_METHODS)
    ('random', 'gradient-cosine', 'randomised', 'influcoder', 'cascade')
    """
    names = compared if names is None else names
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        raise ConfigError(f"methods: {some_of(unknown)}, expected some of {', '.join(METHODS)}.")
    if TeacherSettings.named(teacher).source == "adapter":
        raise ConfigError(f"teacher is {teacher}, but benchmarks fine-tune the decoder whole. Name another one.")
    needed = {*ALWAYS, teacher, *names}
    needed |= {other for name in needed for other in METHODS[name].costed_by}
    return tuple(name for name in dict.fromkeys((*compared, *METHODS)) if name in needed)


def left_out(bench: Bench, names: Sequence[str]) -> dict[str, str]:
    """The methods that cannot be made from a bench, each with the reason."""
    lacking = [need for need in REASONS if bench.lacks(need)]
    return {
        name: next(REASONS[need] for need in lacking if need in METHODS[name].needs)
        for name in names
        if set(lacking) & set(METHODS[name].needs)
    }
