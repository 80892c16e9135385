"""The rivals that read words alone."""

import numpy as np
import pytest

from influcoder.data.examples import Example
from influcoder.evaluation.scorers import Bm25, Random, Tfidf, plain_text

POOL = [
    Example("a", "Which river runs through Paris?", "The Seine runs through Paris."),
    Example("b", "Name a mountain of Nepal.", "Everest is a mountain of Nepal."),
    Example("c", "How is bread made?", "Bread is baked from flour and water."),
    Example("d", "", "Completely different words stand here."),
]
READERS = [Tfidf, Bm25]


@pytest.mark.parametrize("scorer", READERS)
def test_identical_text_ranks_first(scorer):
    scores = scorer().score(POOL, POOL)
    assert scores.shape == (4, 4)
    assert scores.argmax(axis=1).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("scorer", READERS)
@pytest.mark.parametrize("text", ["zyzzyva quux", "?!...", "", "漢字 仮名", "\n\t "])
def test_query_without_a_known_word_scores_zero(scorer, text):
    scores = scorer().score([Example("q", "", text), POOL[1]], POOL)
    assert scores[0].tolist() == [0] * 4
    assert scores[1].argmax() == 1


@pytest.mark.parametrize("scorer", READERS)
def test_pool_row_without_words_scores_zero(scorer):
    pool = [*POOL, Example("e", "", "...")]
    assert scorer().score(POOL, pool)[:, 4].tolist() == [0] * 4


@pytest.mark.parametrize("scorer", READERS)
@pytest.mark.parametrize("texts", [["4", "7", "9"], ["!", "?", "..."]])
def test_pool_without_any_word_scores_zero(scorer, texts):
    """Arithmetic, for one: `2 + 2 =` and `4` hold no word of two letters."""
    pool = [Example(text, "", text) for text in texts]
    assert scorer().score(POOL[:2], pool).tolist() == [[0] * 3] * 2


@pytest.mark.parametrize("scorer", READERS)
def test_case_does_not_matter(scorer):
    loud = [Example(one.id, one.prompt.upper(), one.completion.upper()) for one in POOL]
    np.testing.assert_allclose(scorer().score(loud, POOL), scorer().score(POOL, POOL), atol=1e-6)


@pytest.mark.parametrize("scorer", READERS)
def test_one_query_one_row(scorer):
    assert scorer().score(POOL[:1], POOL[:1]).shape == (1, 1)


@pytest.mark.parametrize("scorer", READERS)
def test_bytes_an_example_are_counted(scorer):
    made = scorer()
    made.score(POOL, POOL)
    assert made.bytes_per_example > 0


@pytest.mark.parametrize("scorer", READERS)
def test_scores_are_finite_numbers(scorer):
    scores = scorer().score(POOL, POOL)
    assert isinstance(scores, np.ndarray)
    assert np.isfinite(scores).all()


def test_tfidf_is_a_cosine():
    np.testing.assert_allclose(np.diag(Tfidf().score(POOL, POOL)), 1, atol=1e-9)


def test_random_is_seeded():
    one, same, other = (Random(seed).score(POOL, POOL) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)
    assert one.shape == (4, 4)


@pytest.mark.parametrize("scorer", [*READERS, Random])
def test_scorers_have_names(scorer):
    assert scorer().name == scorer.__name__.lower()


def test_plain_text_is_both_parts():
    assert plain_text(Example("", "asked", "said")) == "asked\nsaid"
