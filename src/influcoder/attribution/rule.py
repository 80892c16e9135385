"""Which rows are kept of those that stand in an order: a budget, and what each row must be beside.

Exactly one budget: `top`, `drop`, `threshold`, `rows` or `tokens`. Rows are taken in their order until it is spent
(`influcoder.attribution.choosing`). On the way, rows that say nearly the same as a kept one are left out (`distinct`),
and so are rows of a kind of which there are enough (`cap`); a `quota` takes the best of a kind first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from influcoder.errors import ConfigError

BUDGETS = ("top", "drop", "threshold", "rows", "tokens")
_RANKED = {
    "mean": "score",
    "max": "highest score of any query",
    "round-robin": "turns of the queries",
    "diverse": "what they add to the queries that have least",
}


@dataclass(frozen=True, slots=True)
class Limit:
    """How much is taken of the rows with one value in a column, or of each value.

    Attributes:
        value: None for each value.
        share: of the budget, or
        count: of rows; of tokens where the budget counts these.
    """

    column: str
    value: str | None
    share: float | None
    count: int | None

    @classmethod
    def read(cls, text: str, flag: str) -> "Limit":
        """A limit such as source=20%, source=500 or genre=code:10%.

        Raises:
            ConfigError: it is none.

        >>> Limit.read("genre=code:10%", "--cap")
        Limit(column='genre', value='code', share=0.1, count=None)
        """
        column, _, limit = text.partition("=")
        value, _, amount = limit.rpartition(":")
        share, count = None, None
        try:
            if amount.endswith("%"):
                share = float(amount[:-1]) / 100
            else:
                count = int(amount)
        except ValueError:
            pass
        if not column or not (0 < (share or 0) <= 1 or (count or 0) > 0):
            raise ConfigError(
                f"{flag} {text}: expected COLUMN=AMOUNT or COLUMN=VALUE:AMOUNT with an amount such as 20% or 500."
            )
        return cls(column.strip(), value.strip() or None, share, count)

    def of(self, budget: int) -> float:
        """The amount, of a budget."""
        return float(self.count or 0) if self.share is None else self.share * budget + 1e-9

    def __str__(self) -> str:
        amount = str(self.count) if self.share is None else f"{100 * self.share:g}%"
        return f"{self.column}={amount}" if self.value is None else f"{self.column}={self.value}:{amount}"


@dataclass(frozen=True, slots=True)
class Rule:
    """What is kept; the fields are the arguments of `influcoder.select`.

    Raises:
        ConfigError: not exactly one budget, or one that is none; or a limit that cannot be read.
    """

    top: float | None = None
    drop: float | None = None
    threshold: float | None = None
    rows: int | None = None
    tokens: int | None = None
    unwanted: bool = False
    distinct: float | None = None
    cap: str | Sequence[str] = ()
    quota: str | Sequence[str] = ()

    def __post_init__(self) -> None:
        for flag in ("cap", "quota"):
            limits: Any = getattr(self, flag)
            object.__setattr__(self, flag, (limits,) if isinstance(limits, str) else tuple(limits or ()))
        self._refuse_budget()
        if self.unwanted and self.drop is not None:
            raise ConfigError("--drop leaves out what scores highest by itself: leave --unwanted out.")
        if self.distinct is not None and not 0 < self.distinct <= 1:
            raise ConfigError(f"--distinct is {self.distinct}, expected above 0 and at most 1, such as 0.8.")
        quotas = self.quotas
        if any(quota.value is None for quota in quotas) or sum(quota.share or 0 for quota in quotas) > 1 + 1e-9:
            raise ConfigError("--quota: each names a value, as genre=code:30%, and all together are at most 100%.")
        _ = self.caps

    def _refuse_budget(self) -> None:
        budgets = [(name, value) for name in BUDGETS if (value := getattr(self, name)) is not None]
        if len(budgets) != 1:
            raise ConfigError("give exactly one of --top, --drop, --threshold, --rows and --tokens.")
        name, value = budgets[0]
        try:
            number = float(value)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{name} is {value!r}, expected a number.") from error
        if name in ("top", "drop") and not 0 < number <= 1:
            raise ConfigError(f"{name}: share is {value}, expected above 0 and at most 1 (100%).")
        if name in ("rows", "tokens") and not (number >= 1 and number.is_integer()):
            raise ConfigError(f"{name} is {value}, expected a whole number of at least 1.")
        if not np.isfinite(number):
            raise ConfigError(f"{name} is {value}, expected a finite number.")
        object.__setattr__(self, name, int(number) if name in ("rows", "tokens") else number)

    @property
    def caps(self) -> list[Limit]:
        """Limits on how much of a kind is taken."""
        return [Limit.read(text, "--cap") for text in self.cap]

    @property
    def quotas(self) -> list[Limit]:
        """How much of a kind is taken first."""
        return [Limit.read(text, "--quota") for text in self.quota]

    @property
    def columns(self) -> list[str]:
        """The columns that caps and quotas limit."""
        return list(dict.fromkeys(limit.column for limit in (*self.caps, *self.quotas)))

    @property
    def keeps_lowest(self) -> bool:
        """Whether the lowest scores are kept: the queries show what is unwanted."""
        return self.unwanted or self.drop is not None

    @property
    def asks_facts(self) -> bool:
        """Whether the rule needs more of a row than its score."""
        return self.tokens is not None or self.distinct is not None or bool(self.columns)

    def json(self) -> dict[str, Any]:
        """The settings that were given, ready for JSON."""
        settings = {name: value for name, value in asdict(self).items() if value not in (None, False, ())}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> "Rule":
        """Read what `json` wrote."""
        return cls(**{each.name: record[each.name] for each in fields(cls) if each.name in record})

    def words(self, by: str = "mean") -> str:
        """The rule as a reason gives it.

        >>> Rule(top=0.05).words(), Rule(rows=9, unwanted=True, distinct=0.8).words("max")
        ('top 0.05 of the rows by score', 'lowest 9 rows by highest score of any query, no near-duplicates (0.8)')
        """
        limits = [f"at most {cap}" for cap in self.caps] + [f"first {quota}" for quota in self.quotas]
        distinct = [] if self.distinct is None else [f"no near-duplicates ({self.distinct:g})"]
        return ", ".join([self._budget_words(_RANKED[by]), *limits, *distinct])

    def _budget_words(self, ranked: str) -> str:
        side = "lowest" if self.unwanted else "top"
        if self.top is not None:
            return f"{side} {self.top:.4g} of the rows by {ranked}"
        if self.drop is not None:
            return f"all but the top {self.drop:.4g} of the rows by {ranked}"
        if self.threshold is not None:
            return f"score at {'most' if self.unwanted else 'least'} {self.threshold:.6g}"
        if self.rows is not None:
            return f"{side} {self.rows} rows by {ranked}"
        return f"{side} {self.tokens} tokens by {ranked}"
