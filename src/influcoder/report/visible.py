"""Text from training data made safe to show, in a terminal or on a page."""

import unicodedata

_BLANK = "\u115f\u1160\u3164\uffa0\u034f\u2800"  # drawn as nothing, yet neither spaces nor format characters


def visible(text: str) -> str:
    """Write characters that a reader cannot see, or that reorder a line, as their code points.

    >>> print(visible("left\\u202eright\\u200b"))
    left⟨U+202E⟩right⟨U+200B⟩
    """
    return "".join(f"⟨U+{ord(c):04X}⟩" if _hidden(c) else c for c in text.replace("\r\n", "\n"))


def one_line(text: str, limit: int = 200) -> str:
    """The same harmless text on one line, cut where it is longer than `limit` characters.

    >>> one_line("two\\n  lines"), one_line("too long for it", 10)
    ('two lines', 'too lon...')
    """
    line = visible(" ".join(text.split()))
    return line if len(line) <= limit else line[: limit - 3] + "..."


def _hidden(character: str) -> bool:
    category = unicodedata.category(character)
    return category in ("Zl", "Zp") or (category[0] == "C" and character not in "\n\t") or character in _BLANK
