"""Words that tell a group of texts from others, and words that two texts share."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
LEAST_LETTERS = 3
"""of a word that names something"""


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, in order.

    >>> words_of("Ada's notes, 1843: «Note_G»")
    ["ada's", 'notes', '1843', 'note', 'g']
    """
    return _WORD.findall(text.casefold())


def telling_words(groups: Sequence[Iterable[str]], count: int = 3) -> list[list[str]]:
    """The words that tell each group of texts from the others, most telling first.

    A word's weight in a group is p log(p / q), where p is the share of the group's texts that have it and q that of all
    texts: TF-IDF with the other groups as its documents (Tomokiyo and Hurst, 2003). A long text counts no more than a
    short one.

    >>> telling_words([["a cat sat", "the cat ran"], ["the dog sat", "dog food"]], 1)
    [['cat'], ['dog']]
    """
    sets = [[set(words_of(text)) for text in texts] for texts in groups]
    counts = [Counter(word for words in texts for word in words) for texts in sets]
    everywhere, total = sum(counts, Counter[str]()), max(sum(map(len, sets)), 1)
    telling = []
    for group, texts in zip(counts, sets, strict=True):
        weights = {}
        for word, times in group.items():
            if len(word) >= LEAST_LETTERS and not word.isdecimal():
                inside, outside = times / len(texts), everywhere[word] / total
                weights[word] = inside * math.log(inside / outside)
        telling.append(sorted(weights, key=lambda word: (-weights[word], word))[:count])
    return telling


@dataclass(frozen=True, slots=True)
class Rarity:
    """How rare a word is among some texts: inverse document frequency, log(1 + n / f)."""

    texts: int
    frequencies: Counter[str]

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Rarity":
        """Count the words of all texts, or of a sample of them."""
        frequencies: Counter[str] = Counter()
        number = 0
        for text in texts:
            frequencies.update(set(words_of(text)))
            number += 1
        return cls(number, frequencies)

    def weight(self, word: str) -> float:
        """Above log 2; highest for a word that no text has."""
        return math.log1p(self.texts / max(self.frequencies[word], 1))

    def shared(self, first: str, second: str, count: int = 5) -> list[str]:
        """The words that stand in both texts, rarest first; words of more than a fifth of all texts are left out.

        >>> Rarity.of(["the cat", "the dog", "the cow"]).shared("The cat and the dog.", "Feed the cat")
        ['cat']
        """
        common = {word for word in set(words_of(first)) & set(words_of(second)) if len(word) >= LEAST_LETTERS}
        rare = [word for word in common if self.frequencies[word] <= max(self.texts / 5, 1)]
        return sorted(rare, key=lambda word: (-self.weight(word), word))[:count]


def shared_phrases(source: str, text: str, least: int = 2) -> list[tuple[int, int]]:
    """Where a text repeats at least so many words in a row of its source: [(start, stop)] in characters, in order.

    >>> text = "She was born in Genoa, he was born in Lyon."
    >>> [text[start:stop] for start, stop in shared_phrases("Who was born in Genoa?", text)]
    ['was born in Genoa', 'was born in']
    """
    source_words = words_of(source)
    runs = {tuple(source_words[place : place + least]) for place in range(len(source_words) - least + 1)}
    words = [(match.group().casefold(), match.start(), match.end()) for match in _WORD.finditer(text)]
    joined: list[tuple[int, int]] = []
    for place in range(len(words) - least + 1):
        run = words[place : place + least]
        if tuple(word for word, _, _ in run) in runs:
            start, stop = run[0][1], run[-1][2]
            if joined and start <= joined[-1][1]:
                joined[-1] = (joined[-1][0], stop)
            else:
                joined.append((start, stop))
    return joined
