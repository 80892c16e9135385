"""Rules: budgets, caps, quotas, near-duplicates, and what they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from influcoder.attribution.choosing import choose
from influcoder.attribution.near_duplicates import Distinct, signatures
from influcoder.attribution.orders import Order
from influcoder.attribution.rule import Rule
from influcoder.errors import ConfigError

SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2], np.float32)
KINDS = ["web", "web", "web", "web", "book", "book", "code", ""]
TEXTS = [f"text number {n} of some that differ {n} {n * n}" for n in range(8)]


class Given:
    """Facts that a test gives."""

    def __init__(self, texts=TEXTS, kinds=KINDS, tokens=(3, 3, 3, 3, 3, 3, 3, 3)):
        self.texts, self.of_column, self.counts = texts, kinds, tokens

    def tokens(self):
        return np.array(self.counts)

    def kinds(self, column):
        assert column == "source"
        return self.of_column

    def signatures(self):
        return signatures(self.texts)


def kept(rule, facts=Given, scores=SCORES):
    return np.flatnonzero(choose(Order.by_score(scores), rule, facts).is_kept).tolist()


@pytest.mark.parametrize(
    ("rule", "rows"),
    [
        ({"rows": 3}, [0, 1, 2]),
        ({"rows": 30}, list(range(8))),
        ({"top": 0.5}, [0, 1, 2, 3]),
        ({"drop": 0.25}, [2, 3, 4, 5, 6, 7]),
        ({"threshold": 0.75}, [0, 1]),
        ({"rows": 3, "unwanted": True}, [5, 6, 7]),
        ({"top": 0.75, "unwanted": True}, [2, 3, 4, 5, 6, 7]),
        ({"threshold": 0.45, "unwanted": True}, [5, 6, 7]),
        ({"tokens": 10}, [0, 1, 2]),
        ({"tokens": 2}, []),
        ({"tokens": 7, "unwanted": True}, [6, 7]),
        ({"rows": 4, "cap": "source=50%"}, [0, 1, 4, 5]),
        ({"rows": 4, "cap": "source=web:1"}, [0, 4, 5, 6]),
        ({"rows": 4, "cap": ["source=1"]}, [0, 4, 6, 7]),
        ({"tokens": 12, "cap": "source=6"}, [0, 1, 4, 5]),
        ({"threshold": 0.35, "cap": "source=50%"}, [0, 1, 2, 4, 5]),
        ({"rows": 4, "quota": "source=code:25%"}, [0, 1, 2, 6]),
        ({"rows": 4, "quota": ["source=code:25%", "source=book:50%"], "cap": "source=web:0.1%"}, [4, 5, 6, 7]),
        ({"rows": 3, "quota": "source=book:2", "unwanted": True}, [4, 5, 7]),
        ({"drop": 0.5, "cap": "source=book:1"}, [5, 6, 7, 3]),
    ],
)
def test_what_a_rule_keeps(rule, rows):
    assert kept(Rule(**rule)) == sorted(rows)


def test_near_duplicates_make_room_for_others():
    texts = [*TEXTS[:2], TEXTS[0], TEXTS[1].upper(), *TEXTS[4:]]
    choice = choose(Order.by_score(SCORES), Rule(rows=4, distinct=0.8), lambda: Given(texts))
    assert np.flatnonzero(choice.is_kept).tolist() == [0, 1, 4, 5]
    assert choice.duplicates == {2: 0, 3: 1}
    reasons = choice.reasons("RULE")
    assert reasons[0] == "kept: RULE"
    assert reasons[2] == "rejected: says nearly the same as a row that is kept"
    assert reasons[7] == "rejected: not RULE"


def test_estimated_similarity_is_that_of_the_texts():
    words = [f"w{n}" for n in range(400)]
    for changed, similar in ((0, 1.0), (20, 0.75), (100, 0.3)):
        other = [f"x{n}" if n < changed * 4 and n % 4 == 0 else word for n, word in enumerate(words)]
        sets = [{tuple(text[n : n + 3]) for n in range(398)} for text in (words, other)]
        true = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
        one, two = signatures([" ".join(words), " ".join(other)])
        assert (one == two).mean() == pytest.approx(true, abs=0.15), similar


@given(st.lists(st.text(max_size=20), max_size=8))
def test_any_text_has_a_signature(texts):
    found = signatures(texts)
    distinct = Distinct(found, 1.0)
    for row in range(len(texts)):
        distinct.keep(row)
        assert distinct.like(row) in range(row + 1)


@given(st.integers(1, 30), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_caps_hold_and_budgets_are_used_up(budget, cap, seed):
    rng = np.random.default_rng(seed)
    kinds = rng.choice(["a", "b", "c"], 8).tolist()
    rule = Rule(rows=budget, cap=f"source={cap}")
    rows = kept(rule, lambda: Given(kinds=kinds), rng.permutation(SCORES))
    counts = [sum(kinds[row] == kind for row in rows) for kind in "abc"]
    assert max(counts) <= cap
    assert len(rows) == min(budget, sum(min(cap, kinds.count(kind)) for kind in "abc"))


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({}, "exactly one of --top, --drop, --threshold, --rows and --tokens"),
        ({"rows": 3, "tokens": 3}, "exactly one"),
        ({"rows": 0}, "rows is 0, expected a whole number of at least 1"),
        ({"tokens": 2.5}, "tokens is 2.5"),
        ({"rows": float("nan")}, "rows is nan"),
        ({"drop": 0.1, "unwanted": True}, "leave --unwanted out"),
        ({"rows": 3, "distinct": 0}, "--distinct is 0"),
        ({"rows": 3, "cap": "source"}, "--cap source: expected COLUMN=AMOUNT"),
        ({"rows": 3, "cap": "source=lots"}, "--cap source=lots"),
        ({"rows": 3, "cap": "source=120%"}, "--cap source=120%"),
        ({"rows": 3, "cap": "source=-5"}, "--cap source=-5"),
        ({"rows": 3, "quota": "source=20%"}, "--quota: each names a value"),
        ({"rows": 3, "quota": ["a=b:60%", "a=c:60%"]}, "at most 100%"),
    ],
)
def test_rules_that_are_none(rule, told):
    with pytest.raises(ConfigError, match=told):
        Rule(**rule)


def test_a_rule_is_read_again():
    rule = Rule(tokens=500, unwanted=True, distinct=0.8, cap="source=20%", quota=["genre=code:30%"])
    assert Rule.read(rule.json()) == rule
    assert rule.words("round-robin") == (
        "lowest 500 tokens by turns of the queries, at most source=20%, first genre=code:30%, no near-duplicates (0.8)"
    )
