"""What the page shows, without a browser: addresses, figures, methods, question sets."""

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest
from starlette.datastructures import QueryParams

from helpers.given_vectors import Fixed, whole_numbers
from influcoder.attribution.pool_columns import Groups, PoolColumns
from influcoder.data.examples import Example
from influcoder.indexes import build as indexing
from influcoder.indexes.index import Index
from influcoder.indexes.lance import LanceIndex, export
from influcoder.report.page import write_report
from influcoder.serve import page
from influcoder.serve.prepared import Prepared
from influcoder.serve.problems import Problem
from influcoder.serve.ranking import Ranking
from influcoder.serve.static_files import STATIC
from influcoder.serve.styles import PAGES, STYLES
from influcoder.serve.view import concentration, spread
from influcoder.serve.view.address import Address
from influcoder.serve.view.cards import segments
from influcoder.serve.view.marking import Marking
from influcoder.serve.view.methods import Words, compare
from influcoder.serve.view.question_set import QuestionSet, budget_of
from influcoder.serve.view.rows import Left
from influcoder.serve.view.screen import Screen
from influcoder.serve.view.sides import sides_of_scores
from influcoder.serve.wire import Asked
from influcoder.store.output_folder import Folder

ROWS = 40


class Asking(Fixed):
    """Questions have the vectors of the rows that their prompts name."""

    trust, query_projector = {}, None

    def encode_query(self, examples):
        return self.vectors[[int(one.prompt.split()[-1]) for one in examples]]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("index")
    encoder = Asking(whole_numbers(ROWS) + np.float32(0.5))
    examples = [Example(str(n), f"prompt number {n % 20}", f"word{n % 5} said") for n in range(ROWS)]
    indexing.build(encoder, iter(examples), folder, shard_rows=16)
    opened = Index(folder)
    opened.encoder = encoder
    return opened


# Addresses


def test_an_address_is_read_as_it_is_written():
    asked = Address(prompt="a & b?", view="rows", where=("x=1", "text~é"), page=3, lit=("4",), selection="s")
    assert Address.of(QueryParams(asked.text)) == asked
    assert Address.of(QueryParams("")) == Address()
    assert Address().url() == "/"


def test_what_cannot_be_used_is_left_out():
    odd = "view=nowhere&page=-4&shown=9999&budget=nan&sort=;drop&by=median&lit=x&lit=1&lit=1&where=&page=1e400"
    found = Address.of(QueryParams(odd))
    assert (found.view, found.shown, found.sort, found.by, found.lit, found.where) == (
        "sides", 50, "-score", "mean", ("1",), (),
    )  # fmt: skip
    assert found.page == 1
    assert 0 <= found.budget <= 1


def test_another_view_begins_at_the_first_page():
    assert "page" not in Address(page=4, view="rows").url(view="sides")
    assert "page=4" in Address(page=4, view="rows").url()
    assert Address(where=("a=1", "b=2")).without(["a=1"]) == "/?where=b%3D2"
    assert Address(view="map").also("region=1") == "/?view=rows&where=region%3D1"
    assert Address(lit=("3",)).lighting(3) == "/"


# Figures


def test_the_histogram_counts_every_row_and_always_has_zero():
    scores = np.random.default_rng(0).normal(5, 1, 500).astype(np.float32)
    drawn = spread.histogram(scores, (4.0, 6.0)).marked([7.0])
    assert sum(int(bar.label.split()[0]) for bar in drawn.bars) == 500
    assert drawn.zero == 0
    assert drawn.marks[0][1] == "up"
    inside = ((scores >= 4) & (scores <= 6)).sum()
    assert drawn.outside == (500 - inside, pytest.approx(1 - inside / 500))
    assert spread.histogram(np.zeros(3, np.float32), None).most == 3


def test_the_curve_is_drawn_from_the_first_row_to_all():
    drawn = concentration.curve(np.array([6, 3, 1, 0], np.float32))
    assert drawn.points[0] == (0.25, pytest.approx(0.6))
    assert drawn.points[-1] == (1.0, pytest.approx(1))
    assert drawn.line.endswith("300.0,0.0")


def test_many_groups_are_the_first_few_and_the_others():
    groups = Groups(np.arange(30, dtype=np.int32), tuple(f"s{n}" for n in range(30)))
    found = spread.slices({"source": groups}, np.arange(30, dtype=np.float32))["source"]
    assert len(found) == spread.MOST_SLICES + 1
    assert found[0].name == "s29"
    assert found[0].filters == ["source=s29"]
    assert found[-1].name == "22 others"
    assert sum(one.positive for one in found) == pytest.approx(1)
    assert sum(one.rows for one in found) == 30


def test_segments_give_the_text_back():
    text = "Ada was born in Genoa; ADA."
    found = segments(text, "Who was born in Genoa", ["ada", "born"])
    assert "".join(one for one, _ in found) == text
    assert ("was born in Genoa", "phrase") in found
    assert [one for one, kind in found if kind == "word"] == ["Ada", "ADA"]


# Methods


def answer_of(index, row):
    scores = index.scores(index.encoder.vectors[row][None])[0]
    order = np.argsort(-scores, kind="stable")
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(1, len(order) + 1)
    return SimpleNamespace(scores=scores, order=order, ranks=ranks, text="word3 said")


def test_methods_are_compared_on_the_rows_that_both_know(index):
    scores = answer_of(index, 0).scores
    exact = {row: -float(scores[row]) for row in range(12)}
    columns, pairs = compare(answer_of(index, 0), exact, Words(index))
    encoder, checked, words = columns
    assert checked.rows == sorted(exact, key=lambda row: (-exact[row], row))[:10]
    assert encoder.scores == sorted(encoder.scores, reverse=True)
    assert set(words.rows[:8]) == {row for row in range(ROWS) if row % 5 == 3}
    found = {(pair.first, pair.second): pair for pair in pairs}
    assert found["encoder", "exact"].spearman == pytest.approx(-1)
    assert found["encoder", "exact"].rows == 12
    assert found["encoder", "BM25"].rows == ROWS
    assert found["encoder", "BM25"].overlap == len(set(encoder.rows) & set(words.rows))
    assert encoder.alone == set(encoder.rows) - set(checked.rows) - set(words.rows)


def test_where_few_rows_are_left_each_stands_on_one_side(index):
    answer = answer_of(index, 0)
    mask = np.zeros(ROWS, bool)
    mask[[1, 5, 9]] = True
    seen = {}
    cards = SimpleNamespace(folded=lambda rows, scores, ranks, shown: list(rows[:shown]))
    seen = sides_of_scores(cards, answer, Left([], mask, 3), 10)
    assert sorted([*seen["proponents"], *seen["opponents"]]) == [1, 5, 9]


# Large pools


async def at_once(work):
    return work()


def screen_over(index):
    """A screen over an index, without a service."""
    explorer = SimpleNamespace(
        index=index,
        teacher=None,
        decoder=None,
        ready=True,
        changed=False,
        questions={},
        settings=SimpleNamespace(decoder=None),
        worker=SimpleNamespace(add_job=lambda job: job(), give_way=lambda: None, run=at_once),
        selections=SimpleNamespace(all=list),
        answering=None,
        ranking=lambda prepared: Ranking(index, prepared.vector),
        provenance=lambda: SimpleNamespace(tier="static", encoder="e" * 64, manifest="m", version="0", made_by={}),
    )
    index.encoder.measured = {}
    return Screen(explorer)


@pytest.fixture
def served(index):
    return screen_over(index)


def asking(screen, row):
    vector = screen.explorer.index.encoder.vectors[row]
    asked = Asked(id="query", prompt=str(row), completion="said", own_answer=False, read=None)
    return screen.answers.of(Prepared(asked, Example("query", str(row), "said"), vector, None))


def test_of_a_large_pool_the_ends_come_first_and_are_the_same(served, monkeypatch):
    address = Address(prompt="3", completion="said", shown=5)
    whole = served.shown(address, asking(served, 3))
    monkeypatch.setattr("influcoder.serve.view.screen.AT_ONCE", ROWS - 1)
    other = Screen(served.explorer)
    large = other.shown(address, asking(other, 3))
    assert large["spread_later"]
    assert "histogram" not in large
    for side in ("proponents", "opponents"):
        assert [card.score for card in large[side]] == pytest.approx([card.score for card in whole[side]])
        assert [card.percentile for card in large[side]] == pytest.approx([card.percentile for card in whole[side]])
    text = page.TEMPLATES.get_template("page.html").render(other.frame(address) | {"job": None} | large)
    assert 'hx-get="/spread?prompt=3' in text
    later = other.spread_alone(address, asking(other, 3))
    assert later["histogram"].most == whole["histogram"].most
    assert "spread_later" not in other.shown(address, asking(other, 3))  # its scores are known now


def test_rows_in_lancedb_have_both_sides_and_no_more(index, served, tmp_path):
    export(index, str(tmp_path / "db"), Folder(tmp_path / "out"))
    lance = LanceIndex(tmp_path / "out")
    lance.encoder = index.encoder
    screen, address = screen_over(lance), Address(prompt="3", completion="said", shown=5)
    found = screen.shown(address, asking(screen, 3))
    whole = served.shown(address, asking(served, 3))
    assert [card.number for card in found["proponents"]] == [card.number for card in whole["proponents"]]
    text = page.TEMPLATES.get_template("page.html").render(screen.frame(address) | {"job": None} | found)
    assert "Against it" in text
    assert "All rows" not in text
    assert "How to read the scores" in text


def test_marks_that_cannot_be_made_are_refused(served):
    marking = Marking(served.explorer, lambda *_: Left([], None, ROWS))

    def mark(words):
        return asyncio.run(marking.mark(Address(), {"set": words}, None))

    for words in ("", "keep", "throw 3", "keep x", "keep all", "drop -1"):
        with pytest.raises(Problem, match=r"expected one of|no rows to mark"):
            mark(words)


# Question sets


def test_a_question_set_sums_up_and_a_budget_takes_the_best(index):
    questions = [Example("a", "3", "x"), Example("b", "7", "x")]
    found = QuestionSet.of(index, questions)
    unit = index.encoder.vectors[[3, 7]]
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    scores = unit @ index.vectors.T
    np.testing.assert_allclose(found.mean, scores.mean(axis=0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.highest, scores.max(axis=0), rtol=1e-4, atol=1e-4)
    rows = np.array([9, 2, 30])
    np.testing.assert_allclose(found.of_rows(index, rows), scores[:, rows], rtol=1e-4, atol=1e-4)
    pool = SimpleNamespace(regions=None, columns=PoolColumns(index))
    few, all_ = (budget_of(found, "mean", share, pool) for share in (0.1, 1.0))
    assert (few.rows, all_.rows, all_.covered, all_.first_ten) == (4, ROWS, 2, 1.0)
    assert few.threshold == pytest.approx(np.sort(found.mean)[::-1][3])
    assert all_.twins == 20  # of 40 rows each text stands twice


# What is served, and with what


def test_the_report_is_made_of_the_same_components(tmp_path):
    (tmp_path / "metrics.json").write_text('{"methods": {}}')
    shared = PAGES.get_template("components.css").render().strip()
    assert shared in write_report(tmp_path).read_text()
    assert shared in STYLES


def test_a_page_that_is_not_ready_says_so_and_looks_again():
    explorer = SimpleNamespace(
        ready=False,
        questions={},
        index=SimpleNamespace(folder=STATIC, store=None, __len__=lambda: 3),
        settings=SimpleNamespace(decoder="d"),
    )
    asked = Address()
    held = {"loading": 12, "wants_decoder": True, "address": asked, "asked": asked, "views": {}, "rows": 3}
    text = page.TEMPLATES.get_template("page.html").render(
        held | {"index_name": "i", "saved": [], "expected": {}, "explorer": explorer}
    )
    assert "12 s so far" in text
    assert f"<style>{STYLES}</style>" in text  # not a character more: a browser compares their hash
    assert "the decoder are being loaded" in text
    assert '<meta http-equiv="refresh" content="2">' in text
