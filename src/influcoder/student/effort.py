"""How much of the decoder a student runs on a text: a dial from looking tokens up to a gradient."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from influcoder.model.decoder import Decoder


@dataclass(frozen=True, slots=True)
class Effort:
    """What of the decoder is run on each text.

    Attributes:
        depth: share of its layers that are run forward; 0 runs none, tokens are only looked up.
        tokens: of a text that are read, the end of its prompt and the start of its completion; None reads all.
        backward: take the teacher's gradient of these tokens, which needs all layers.

    >>> print(Effort(1 / 3, tokens=80))
    33 % of the layers forward, 80 tokens
    """

    depth: float = 0.0
    tokens: int | None = None
    backward: bool = False

    @property
    def tier(self) -> Literal["static", "forward", "short"]:
        """The name of an encoder of this kind: static, forward or short."""
        if not self.depth:
            return "static"
        return "short" if self.backward else "forward"

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Effort":
        """That of an encoder, from its settings; those written before there was a dial name their tier alone."""
        if "effort" in settings:
            return cls(**settings["effort"])
        before = BY_TIER.get(settings.get("tier", ""), STATIC)
        return cls(before.depth, settings.get("short_tokens", before.tokens), before.backward)

    def settings(self) -> dict[str, Any]:
        """What an encoder keeps of it."""
        return {"tier": self.tier} | ({"effort": asdict(self)} if self.depth else {})

    def reading(self, decoder: Decoder) -> Decoder:
        """The decoder, reading as many tokens of a text."""
        return decoder if self.tokens is None else decoder.shortened(self.tokens)

    def __str__(self) -> str:
        if not self.depth:
            return "tokens looked up"
        part = "" if self.depth == 1 else f"{100 * self.depth:.0f} % of the layers "
        return f"{part}{'backward' if self.backward else 'forward'}, {self.tokens or 'all'} tokens"


STATIC, FORWARD, SHORT = Effort(), Effort(1.0), Effort(1.0, 80, backward=True)
BY_TIER: dict[str, Effort] = {effort.tier: effort for effort in (STATIC, FORWARD, SHORT)}
DIAL = (
    STATIC,
    Effort(2 / 3),
    FORWARD,
    *(Effort(1.0, tokens, backward=True) for tokens in (20, 40, 60, 80)),
)
"""the points that `distill --cost` chooses from; those that were tried and left out: docs/decisions, 26"""
