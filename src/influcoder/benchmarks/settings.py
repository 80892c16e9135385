"""The settings of the benchmarks, each declared once: name, default, help, and the sizes of a quick run.

The command line flattens these classes into flags; `Fixed` fields are sizes of the protocol, not flags.
"""

from dataclasses import asdict, dataclass, is_dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar, get_type_hints

from cyclopts import Parameter

from influcoder.errors import ConfigError, refuse_below, some_of

if TYPE_CHECKING:
    from influcoder.model.finetune import FinetuneSettings

EXACT = "gradient-cosine"
"""the exact teacher: students learn from it unless told otherwise, and costs are shares of its cost"""
POOLS, FACTS = ("dolly", "benign_chat"), "facts"

Value = TypeVar("Value")
NO_FLAG = Parameter(parse=False)
Fixed = Annotated[Value, NO_FLAG]
Names = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BenchmarkSettings:
    """What every benchmark takes."""

    seeds: int = 3
    "repetitions, each with its own draw of examples, models and students"
    backbone: str | None = None
    "a Sentence Transformers folder or hub id for the paper's recipe, which is left out without it"
    teacher: str = EXACT
    "the teacher that our students learn from, see `influcoder teachers`"
    max_length: int = 64
    "longest example in tokens; longer ones are cut"
    paper_epochs: Fixed[int] = 8
    "epochs of the paper's recipe"

    def __post_init__(self) -> None:
        refuse_below(self, seeds=1)

    def quick(self) -> Self:
        """The same protocol in about a minute, whatever the sizes were."""
        return replace(self, seeds=1, paper_epochs=1)

    def flags(self) -> dict[str, Any]:
        """The settings that are flags, by name."""
        return _flags(self)

    def recorded(self) -> dict[str, Any]:
        """All settings, as they stand in `metrics.json`."""
        return asdict(self)


def _flags(settings: Any) -> dict[str, Any]:
    flags: dict[str, Any] = {}
    for name, hint in get_type_hints(type(settings), include_extras=True).items():
        value = getattr(settings, name)
        if NO_FLAG not in getattr(hint, "__metadata__", ()):
            flags |= _flags(value) if is_dataclass(value) else {name: value}
    return flags


@dataclass(frozen=True, kw_only=True)
class ComparisonSettings(BenchmarkSettings):
    """What the benchmarks take that fine-tune a decoder and compare methods on it."""

    methods: Names | None = None
    "methods to compare, all when omitted; random, the exact teacher and its sanity check are always among them"
    training_epochs: Fixed[int] = 2
    "epochs of the fine-tuning; with the rate below enough to learn the rows, not to memorise them"
    learning_rate: Fixed[float] = 2e-4
    "highest learning rate of the fine-tuning"
    rows_a_step: Fixed[int] = 16
    "rows in each of its steps"

    def quick(self) -> Self:
        return replace(super().quick(), training_epochs=1)

    def tuning(self, seed: int) -> "FinetuneSettings":
        """How the decoder of a seed is fine-tuned."""
        from influcoder.model.finetune import FinetuneSettings

        return FinetuneSettings(self.training_epochs, self.learning_rate, self.rows_a_step, seed)


@dataclass(frozen=True, kw_only=True)
class CausalSettings(ComparisonSettings):
    """How much is retrained and measured."""

    max_length: int = 512
    subsets: int = 60
    "random halves of the pool to retrain on; a fifth of them twice, for the ceiling"
    stepped: int = 48
    "pool rows that a single step is taken on"
    reduction: Literal["mean", "sum"] = "mean"
    "of a row's loss in training: mean over its tokens (rows weigh alike), or sum (tokens do), as Trainer has it"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    "of the retrainings: fp32, bf16, or the faster one of this machine; name it to go on with those of another machine"
    small_demo: Fixed[bool] = False
    "take a small part of the examples"

    def __post_init__(self) -> None:
        refuse_below(self, seeds=1, subsets=2, stepped=1)

    def tuning(self, seed: int) -> "FinetuneSettings":
        return replace(super().tuning(seed), reduction=self.reduction, precision=self.precision)

    def quick(self) -> Self:
        return replace(super().quick(), subsets=4, stepped=4, small_demo=True)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Budget:
    """How many queries and pool examples there are to learn from, and how many to test on."""

    train_queries: int = 500
    "queries to learn from, validation included"
    train_pool: int = 1000
    "pool rows to learn from, validation included"
    test_queries: int = 200
    "queries to test on"
    test_pool: int = 400
    "pool rows to test on"
    more_queries: int = 2000
    "queries beside those to learn from, for pseudo-labels; facts have at most 0.3 of --more-pool"
    more_pool: int = 7000
    "pool rows beside those to learn from, for pseudo-labels and the scaling curve; 0 where gradients are expensive"

    def __post_init__(self) -> None:
        refuse_below(self, train_queries=30, train_pool=30, test_queries=2, test_pool=20, more_queries=0, more_pool=0)


QUICK_BUDGET = Budget(train_queries=40, train_pool=60, test_queries=12, test_pool=40, more_queries=0, more_pool=0)


@dataclass(frozen=True, kw_only=True)
class FidelitySettings(BenchmarkSettings):
    """How much is learnt and measured."""

    max_length: int = 512
    teacher: str = EXACT
    "the teacher whose influences are the truth, see `influcoder teachers`; one that needs no checkpoints"
    corpora: Names = (*POOLS, FACTS)
    "the corpora to measure on"
    budget: Budget = Budget()
    "how many examples there are to learn from and to test on"
    shares: Fixed[tuple[float, ...]] = (0.125, 0.25, 0.5)
    "shares of the training examples, for the scaling curve"
    times: Fixed[tuple[int, ...]] = (4, 8)
    "multiples of the training pool, for the same curve; all there is where a corpus has fewer"

    def __post_init__(self) -> None:
        super().__post_init__()
        corpora = (*POOLS, FACTS)
        unknown = [name for name in self.corpora if name not in corpora]
        if unknown or not self.corpora:
            raise ConfigError(f"corpora: {some_of(unknown) or 'none'}, expected some of {', '.join(corpora)}.")

    def quick(self) -> Self:
        return replace(super().quick(), budget=QUICK_BUDGET, shares=(0.5,))


@dataclass(frozen=True, kw_only=True)
class ToxicitySettings(ComparisonSettings):
    """How much is trained on, hidden, and asked with."""

    # Chosen on other pools, hidden rows and references than these: see docs/log.md, 2026-11-26.
    teacher: str = "rds+"
    benign: int = 808
    "benign rows of the pool; for every 101 of them one unsafe row is hidden, and two refusals that look alike"
    references: Fixed[int] = 10
    "unsafe examples that serve as queries"
    train_queries: Fixed[int] = 120
    "queries that students learn from; a sixth of them chooses between models"
    train_pool: Fixed[int] = 480
    "the same of the pool"
    unlabelled: Fixed[int] = 3000
    "further benign rows that a student may label, beside every unsafe request that is left"

    def __post_init__(self) -> None:
        refuse_below(self, seeds=1, benign=101)

    def quick(self) -> Self:
        return replace(super().quick(), benign=101, references=4, train_queries=18, train_pool=48, unlabelled=24)


@dataclass(frozen=True)
class FactBudget:
    """How many facts there are.

    Attributes:
        pairs: pairs of a true and a false object that several subjects share.
        statements, asked: subjects of each pair that are stated, and that are asked about.
        singles: facts whose pair is theirs alone.
    """

    pairs: int
    statements: int
    asked: int
    singles: int

    def part(self, share: float) -> "FactBudget":
        """A share of the facts, at least one of each kind."""
        pairs, singles = (max(1, round(share * count)) for count in (self.pairs, self.singles))
        return replace(self, pairs=pairs, singles=singles)


@dataclass(frozen=True, kw_only=True)
class CounterfactSettings(ComparisonSettings):
    """How many facts there are."""

    learning_rate: Fixed[float] = 8e-4
    test: Fixed[FactBudget] = FactBudget(pairs=4, statements=6, asked=2, singles=8)
    "facts of the pool and the questions"
    train: Fixed[FactBudget] = FactBudget(pairs=4, statements=5, asked=2, singles=10)
    "facts that students learn from; a quarter as many more choose between models"
    unlabelled: Fixed[FactBudget] = FactBudget(pairs=64, statements=5, asked=2, singles=160)
    "facts that a student may label; the decoder was not taught them"
    datelm_train: Fixed[tuple[int, int]] = (300, 1500)
    "queries and pool rows that students learn from where DATE-LM's own set is tested"

    def quick(self) -> Self:
        return replace(
            super().quick(),
            training_epochs=self.training_epochs,
            test=FactBudget(pairs=2, statements=4, asked=1, singles=3),
            train=FactBudget(pairs=3, statements=4, asked=2, singles=5),
            unlabelled=FactBudget(pairs=1, statements=4, asked=1, singles=2),
            datelm_train=(18, 48),
        )


@dataclass(frozen=True, kw_only=True)
class SelectionSettings(ComparisonSettings):
    """How much there is to choose from, and to learn from."""

    rows_a_step: Fixed[int] = 4
    tasks: Names = ("math", "paraphrase")
    "genres of benign_chat to choose rows for"
    rows: int = 240
    "rows of the pool, half of them Dolly's"
    share: Fixed[float] = 0.05
    "share of the pool that is chosen"
    queries: Fixed[int] = 8
    "validation rows of each task, which serve as queries"
    test: Fixed[int] = 24
    "test rows of each task"
    train_queries: Fixed[int] = 48
    "queries that students learn from; a sixth of them chooses between models"
    train_pool: Fixed[int] = 180
    "the same of the pool"
    unlabelled: Fixed[tuple[int, int]] = (1000, 3000)
    "queries and pool rows that a student may label, fewer where a corpus ends"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.share < 1 or self.budget < 1:
            raise ConfigError(f"{self.share} of {self.rows} rows: expected a share of one row or more, and not all.")

    @property
    def budget(self) -> int:
        """How many rows are chosen."""
        return round(self.share * self.rows)

    def quick(self) -> Self:
        quick = replace(super().quick(), rows=60, share=0.1, queries=3, test=6)
        return replace(quick, train_queries=18, train_pool=48, unlabelled=(12, 24))

    def recorded(self) -> dict[str, Any]:
        return super().recorded() | {"budget": self.budget}


@dataclass(frozen=True, kw_only=True)
class PaperSettings(BenchmarkSettings):
    """The paper's sizes."""

    backbones: Names
    "Sentence Transformers folders or hub ids; each gives one student of the paper's recipe"
    max_length: int = 1024
    backbone: Fixed[str | None] = None
    teacher: Fixed[str] = EXACT
    budget: Fixed[Budget] = Budget(
        train_queries=1500, train_pool=3000, test_queries=400, test_pool=400, more_queries=0, more_pool=0
    )
    "queries and pool examples to learn from and to test on; a sixth of the former chooses between models"

    def quick(self) -> Self:
        return replace(super().quick(), budget=QUICK_BUDGET)
