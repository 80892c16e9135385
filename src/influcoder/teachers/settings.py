"""The named teachers: which gradient, how compressed, under which curvature, how compared."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from influcoder.errors import ConfigError, refuse_below
from influcoder.maths.precondition import Kind
from influcoder.model.loss import Reduction
from influcoder.model.precision import Precision
from influcoder.provenance import TeacherRecord

Similarity = Literal["cosine", "dot"]
Source = Literal[
    "lora-b",
    "adapter",
    "weights",
    "two-sided",
    "principal",
    "normalised",
    "kronecker",
    "whitened",
    "head",
    "last-state",
    "mean-state",
]
"""what is taken of an example: a gradient (`influcoder.model.layers`), or hidden states and errors of a forward pass"""


@dataclass(frozen=True, slots=True)
class TeacherSettings:
    """What a teacher computes. `TeacherSettings.named("logra", rank=8)` starts from a named one.

    Attributes:
        name: of the teacher these settings began as.
        source: what is taken of an example.
        rank: rows of each random projection of a layer; influences of two seeds agree better the higher it is.
        width: numbers in the sketch of a gradient; 0 keeps the parts side by side, unsketched.
        curvature: what the gradients are preconditioned with (`influcoder.maths.precondition`).
        damping: of the curvature, as a share of its mean eigenvalue.
        kept: eigenvectors of the curvature that are kept, or numbers in a subspace.
        similarity: "cosine" compares directions, "dot" keeps lengths.
        adam: pool gradients are divided by the optimizer's moments, as the steps of training were.
        margin: differentiate log(p / (1 - p)) instead of the loss, as TRAK does.
        reduction: of a pool row's loss: "mean" over its completion tokens, or "sum", as trainers count that take the
            mean over the tokens of a batch. A row's gradient is then longer, by its tokens; its direction is the same.
        normalise_modules: scale each layer's part to unit length first.
        centred: take the mean of the pool's features off both sides before they are compared: what a row teaches that
            every row of the pool teaches then counts for none.
        code_rank: singular vectors that are kept of each layer's matrix, 0 for all (LoRIF).
        modules: patterns of the layers' names, with spaces between, those to leave out after a !; all linear ones but
            the head when None.
        fit_examples: examples of each side that a curvature is learnt from, at most.
        seed: draws projections and sketch.
        precision: "bf16" runs the products in bfloat16; "auto" does so where the processor has it.
        token_budget: padded tokens that go through the model together.
    """

    name: str = "gradient-cosine"
    source: Source = "lora-b"
    rank: int = 64
    width: int = 32768
    curvature: Kind = "none"
    damping: float = 0.1
    kept: int = 512
    similarity: Similarity = "cosine"
    adam: bool = False
    margin: bool = False
    reduction: Reduction = "mean"
    normalise_modules: bool = False
    centred: bool = False
    code_rank: int = 0
    modules: str | None = None
    fit_examples: int = 1024
    seed: int = 0
    precision: Precision = "auto"
    token_budget: int = 1024

    def __post_init__(self) -> None:
        refuse_below(self, rank=1, width=0, kept=1, code_rank=0, fit_examples=1, token_budget=1)
        if not 0 < self.damping < float("inf"):
            raise ConfigError(f"damping is {self.damping}, expected a number above 0.")
        if self.code_rank and (self.width or self.curvature == "subspace"):
            raise ConfigError("code_rank takes layers' matrices as they are: give width 0, and no subspace.")
        if self.code_rank and self.centred:
            raise ConfigError("code_rank takes layers' matrices as they are: leave centred out.")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(choices)}.")

    @classmethod
    def named(cls, name: str, **changes: Any) -> "TeacherSettings":
        """A named teacher's settings, some of them changed; changes of None are left out.

        Raises:
            ConfigError: no teacher has this name, or a change is out of range.

        >>> TeacherSettings.named("logra", rank=8).width
        0
        """
        if name not in TEACHERS:
            raise ConfigError(f"teacher is {name!r}, expected one of {', '.join(TEACHERS)}.")
        if isinstance(changes.get("modules"), list | tuple):
            changes["modules"] = " ".join(changes["modules"])
        settings = TEACHERS[name][1] | {key: value for key, value in changes.items() if value is not None}
        return cls(name=name, **settings)

    @classmethod
    def read(cls, record: TeacherRecord) -> "TeacherSettings":
        """The settings that a features folder or an encoder records."""
        known = {each.name for each in fields(cls)}
        return cls(**{"name": record.name} | {key: value for key, value in record.settings.items() if key in known})

    @property
    def learns(self) -> bool:
        """Whether something is learnt from a sample before there are features: a curvature, directions, a mean."""
        return self.curvature != "none" or self.source in FITTED or self.centred

    @property
    def roles_differ(self) -> bool:
        """Whether an example has other features as a query than as a pool row."""
        return self.adam or self.margin or self.code_rank > 0 or self.reduction == "sum"

    def record(self, *, bf16: bool) -> TeacherRecord:
        """What a folder records of a teacher of these settings, run in bfloat16 or in float32."""
        settings = asdict(self) | {"precision": "bf16" if bf16 else "fp32"}
        for name, earlier in (("reduction", "mean"), ("centred", False)):  # as of folders that do not say it
            if settings[name] == earlier:
                del settings[name]
        return TeacherRecord(settings.pop("name"), settings)


_CHOICES: dict[str, tuple[str, ...]] = {
    "source": get_args(Source),
    "curvature": get_args(Kind),
    "similarity": get_args(Similarity),
    "precision": get_args(Precision),
    "reduction": get_args(Reduction),
}

_FLAT: dict[str, Any] = {}
_BLOCKS: dict[str, Any] = {"source": "principal", "rank": 16, "width": 0}

FITTED = ("principal", "normalised", "kronecker", "whitened")
"""sources that are learnt from a sample of the pool"""
FORWARD = ("head", "last-state", "mean-state")
"""sources that need no backward pass"""

TEACHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "gradient-cosine": ("direction of the loss gradient of a fresh LoRA's B: the paper's teacher", _FLAT),
    "layer-cosine": ("mean over layers of their gradients' cosines", _FLAT | {"normalise_modules": True}),
    "centred-cosine": (
        "layer-cosine less what is common to all rows of the pool",
        _FLAT | {"normalise_modules": True, "centred": True},
    ),
    "gradient-dot": ("gradient-cosine with its length", _FLAT | {"similarity": "dot"}),
    "tracin": ("gradient-dot over checkpoints, weighted by learning rate", _FLAT | {"similarity": "dot"}),
    "less": (
        "cosine over checkpoints, pool gradients as Adam's steps; weights, or a trained adapter's",
        _FLAT | {"source": "weights", "adam": True},
    ),
    "adapter": ("direction of the loss gradient of a trained adapter's A and B", _FLAT | {"source": "adapter"}),
    "logra-raw": ("every layer's gradient between its leading directions", _BLOCKS | {"similarity": "dot"}),
    "logra": (
        "the same under the inverse Fisher of each layer",
        _BLOCKS | {"similarity": "dot", "curvature": "fisher"},
    ),
    "lorif": (
        "LoGra with rank-1 factors of each layer and a truncated curvature",
        _BLOCKS | {"similarity": "dot", "curvature": "fisher", "code_rank": 1, "kept": 64},
    ),
    "trackstar": (
        "second-moment-corrected, whitened by queries and pool, unit length",
        _BLOCKS | {"source": "normalised", "curvature": "mixed"},
    ),
    "rrinf": (
        "ridge regression of the query's gradient on the pool's, solved in closed form",
        _FLAT | {"similarity": "dot", "curvature": "fisher"},
    ),
    "gist": ("gradients inside the queries' leading directions", _FLAT | {"curvature": "subspace", "kept": 64}),
    "datainf": (
        "closed form: mean of inverses, layer by layer",
        _BLOCKS | {"similarity": "dot", "curvature": "datainf"},
    ),
    "trak": (
        "margin gradients under the kernel of the pool's",
        _FLAT | {"similarity": "dot", "margin": True, "curvature": "fisher"},
    ),
    "ekfac": (
        "Kronecker factors with corrected eigenvalues",
        _BLOCKS | {"source": "kronecker", "rank": 64, "similarity": "dot"},
    ),
    "kfac": (
        "gradient-dot, each layer under its Kronecker factors before it is sketched",
        _FLAT | {"source": "whitened", "similarity": "dot"},
    ),
    "kfac-cosine": ("the direction of the same", _FLAT | {"source": "whitened"}),
    "forward": ("gradient of a linear layer before the output head: forward pass only", {"source": "head"}),
    "repsim": ("last hidden state of the last token", {"source": "last-state", "width": 0}),
    "rds+": ("position-weighted mean of last hidden states", {"source": "mean-state", "width": 0}),
}
"""name: (what it is, in a line; its settings)"""


def refuse_no_token_shares(settings: TeacherSettings) -> None:
    """See that influence is a sum over the tokens of an example: features linear in the gradient of its loss.

    Raises:
        ConfigError: it is not.
    """
    if not _by_token(settings):
        able = [name for name in TEACHERS if _by_token(TeacherSettings.named(name))]
        raise ConfigError(
            f"the influence by {settings.name} is no sum over a row's tokens, so none has a share of it. Leave "
            f"--tokens out, or distill from a teacher that has token shares: {', '.join(able)}."
        )


def _by_token(settings: TeacherSettings) -> bool:
    return settings.source not in FORWARD and not settings.adam and not settings.margin
