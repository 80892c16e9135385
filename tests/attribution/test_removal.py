import numpy as np
import pytest

from helpers.given_vectors import Hashed, build, pool
from influcoder import extras
from influcoder.attribution.removal import first_rows, refuse_removal, removals
from influcoder.errors import ConfigError, MissingDependency
from influcoder.evaluation.scorers import Tfidf
from influcoder.indexes.index import Index


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("index")
    build(folder)
    opened = Index(folder)
    opened.encoder = Hashed()
    return opened


def test_queries_take_turns():
    assert first_rows([[1, 2, 3], [4, 5, 6]], 4) == [1, 4, 2, 5]
    assert first_rows([[1, 2, 3], [1, 4, 2], [2, 1, 5]], 4) == [1, 2, 4, 3]
    assert first_rows([[7, 8, 9]], 2) == [7, 8]


def test_what_is_removed(index):
    asked = pool(13, 15)
    chosen = removals(index, asked, 10, seeds=range(3))
    assert list(chosen) == ["found", "random", "tfidf"]
    assert all(len(set(rows)) == 10 for of_seeds in chosen.values() for rows in of_seeds)
    scores = index.scores(Hashed().encode_query(asked))
    assert chosen["found"] == [first_rows(np.argsort(-scores, axis=1, kind="stable")[:, :10].tolist(), 10)] * 3
    words = Tfidf().score(asked, pool())
    assert chosen["tfidf"] == [first_rows(np.argsort(-words, axis=1, kind="stable")[:, :10].tolist(), 10)] * 3
    assert chosen["tfidf"][0][:2] == [13, 14]
    assert not set(chosen["found"][0]) & {row for rows in chosen["random"] for row in rows}
    assert len({tuple(rows) for rows in chosen["random"]}) == 3
    assert removals(index, asked, 10, seeds=[1])["random"] == chosen["random"][1:2]


def test_controls_that_were_not_asked_for_are_left_out(index):
    assert list(removals(index, pool(3, 5), 4, controls=["tfidf"])) == ["found", "tfidf"]
    assert list(removals(index, pool(3, 5), 99, controls=[])) == ["found"]


@pytest.mark.parametrize(
    ("count", "controls", "words"),
    [
        (0, [], "--remove is 0"),
        (100, [], "has 100 rows. Remove at least one, and leave some"),
        (51, ["random"], "not as many others to draw"),
        (5, ["bm25"], "--controls bm25: expected random or tfidf"),
        (5, ["random", "random"], "each once"),
    ],
)
def test_what_cannot_be_removed(index, count, controls, words):
    with pytest.raises(ConfigError, match=words):
        refuse_removal(index, count, controls, 0)


def test_a_control_that_needs_a_package(index, monkeypatch):
    monkeypatch.setattr(extras, "is_installed", lambda package: package != "sklearn")
    refuse_removal(index, 50, ["random"], 0)
    with pytest.raises(MissingDependency, match=r"pip install 'influcoder\[eval\]'"):
        refuse_removal(index, 5, ["random", "tfidf"], 0)
