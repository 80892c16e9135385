"""Tokens highlighted by their share of an influence: in colour on a terminal, otherwise the few strongest by name."""

import re
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from influcoder.report.visible import visible

Tokens = Sequence[tuple[str, float]]
"""(text, share) of each token of a completion, as `Hit.tokens` has them"""
Lit = tuple[str, str, float]
"""a token's text, how a page lights it, and its share"""
LEVELS = (0.2, 0.4, 0.75)
"""shares of the strongest token from which a token is lit, more, and most"""
_TOWARDS = ("white on rgb(92,128,102)", "white on rgb(52,140,78)", "bold white on rgb(0,150,60)")
_AWAY = ("white on rgb(144,104,104)", "white on rgb(172,76,76)", "bold white on rgb(200,30,40)")
END = "(end)"
"""what is written after a completion, and has no text"""
_WITHOUT_SPACES = "\u2e80"
"""the first of the characters of scripts that put no spaces between words"""
LONGEST = 400
"""characters of a lit completion"""


def level(share: float, strongest: float) -> int:
    """How brightly a token is lit: 0 for not at all, to 3.

    >>> level(-0.5, 1.0), level(0.01, 1.0), level(0.0, 0.0)
    (2, 0, 0)
    """
    return sum(strongest > 0 and abs(share) >= least * strongest for least in LEVELS)


def strongest_share(tokens: Tokens) -> float:
    """The largest share of a token, whatever its sign."""
    return max((abs(share) for _, share in tokens), default=0.0)


def lit_tokens(tokens: Tokens) -> list[Lit]:
    """(text, how it is lit, share) of each token for a page: towards 1 to 3, away 1 to 3, or not at all.

    >>> lit_tokens([("Genoa", 0.5), (".", 0.01), ("", -0.2)])
    [('Genoa', 'towards3', 0.5), ('.', '', 0.01), (' (end)', 'away2', -0.2)]
    """
    largest = strongest_share(tokens)
    lit = []
    for text, share in tokens:
        bright = level(share, largest)
        kind = f"{'towards' if share > 0 else 'away'}{bright}" if bright else ""
        lit.append((text or (f" {END}" if kind else ""), kind, share))
    return lit


def can_light(console: Console) -> bool:
    """Whether this console shows colours."""
    return console.is_terminal and not console.no_color and console.color_system is not None


def lit(tokens: Tokens) -> Text:
    """A completion on one line, green where its tokens push towards, red where they push away."""
    text, strongest = Text(), strongest_share(tokens)
    for piece, share in tokens:
        bright = level(share, strongest)
        words = visible(re.sub(r"\s+", " ", piece)) or (f" {END}" if bright else "")
        text.append(words, (_TOWARDS if share > 0 else _AWAY)[bright - 1] if bright else "")
    if len(text) > LONGEST:
        text.truncate(LONGEST - 3)
        text.append("...")
    return text


def strongest(tokens: Tokens, count: int = 3) -> str:
    """The few strongest tokens with their shares, strongest first; tokens of one word are named together.

    >>> strongest([("In", 0.01), (" Mont", 0.314), ("real", 0.05), (".", 0.002)], 2)
    'Montreal +.36, In +.01'
    """
    order = sorted((word for word in _words(tokens) if word[1]), key=lambda word: -abs(word[1]))[:count]
    return ", ".join(f"{_name(text)} {_short(share)}" for text, share in order)


def _words(tokens: Tokens) -> list[tuple[str, float]]:
    """Tokens put together where letters meet, in scripts that have spaces between words."""
    words: list[tuple[str, float]] = []
    for text, share in tokens:
        if words and _in_word(words[-1][0][-1:]) and _in_word(text[:1]):
            before, so_far = words.pop()
            text, share = before + text, so_far + share
        words.append((text, share))
    return words


def _in_word(character: str) -> bool:
    return character.isalnum() and character < _WITHOUT_SPACES


def _name(text: str) -> str:
    if not text.strip():
        return "(newline)" if "\n" in text else "(space)" if text else END
    return visible(" ".join(text.split()))


def _short(share: float) -> str:
    return re.sub(r"^([+-])0\.", r"\1.", f"{share:+.2g}")
