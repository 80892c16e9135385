"""One command from a question to its rows: what it makes, keeps, refuses, and goes on with."""

from types import SimpleNamespace

import numpy as np
import orjson
import pytest

from helpers.folders import contents
from helpers.sentences import as_rows, sentences, write_jsonl
from helpers.tiny import save_decoder, tiny_model
from influcoder.data.sampling import Drawn
from influcoder.errors import ConfigError, DataError, StoreError, StoreMismatch
from influcoder.model.decoder import Decoder
from influcoder.student.effort import SHORT, STATIC, Effort
from influcoder.teachers.gradient import GradientTeacher
from influcoder.teachers.make import make_teacher
from influcoder.teachers.settings import TeacherSettings
from influcoder.verbs import trace as verb
from influcoder.verbs.plan import plan_trace
from influcoder.verbs.questions import read_questions
from influcoder.verbs.trace import trace

QUESTION = {"query": "What is the capital of France? ", "completion": "Paris is the capital"}
BEST = 1e6
"a budget in which everything fits, whatever the machine"


@pytest.fixture(scope="module")
def work(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("trace")
    save_decoder(folder / "decoder", tokenizer)
    tiny_model("llama", seed=8).save_pretrained(folder / "other")
    tokenizer.save_pretrained(folder / "other")
    write_jsonl(folder / "pool.jsonl", as_rows(sentences(80, 2, "p")))
    return folder


@pytest.fixture(scope="module")
def decoder(work):
    return Decoder.load(work / "decoder", device="cpu")


@pytest.fixture(scope="module")
def first(work, decoder):
    return trace(decoder, work / "pool.jsonl", work / "made", **QUESTION, sample=40, budget=BEST, k=3)


def test_one_question_is_answered_from_nothing(first, work):
    (found,) = first
    assert found.answer == QUESTION["completion"]
    assert [hit.rank for hit in found.hits] == [1, 2, 3]
    assert found.hits[0].score > found.hits[2].score > found.against[0].score
    assert found.hits.trust is not None
    assert found.pool_as_queries
    assert {one.name for one in (work / "made").iterdir()} == {
        *("trace.json", "questions.parquet", "asked.jsonl", "answers.json"),
        *("features", "encoder", "index"),
    }
    splits = orjson.loads((work / "made" / "encoder" / "metrics.json").read_bytes())["splits"]
    assert (splits["questions"], splits["pool_as_queries"]) == (1, 40)
    assert orjson.loads((work / "made" / "index" / "metrics.json").read_bytes())["rows"] == 80


def test_second_question_makes_nothing(first, work, decoder, monkeypatch):
    for name in ("features", "distill", "index_pool"):
        monkeypatch.setattr(verb, name, None)
    before = contents(work / "made" / "encoder")
    found = trace(decoder, work / "pool.jsonl", work / "made", query="Two plus two is", completion="four", k=2)
    assert len(found[0].hits) == len(found[0].against) == 2
    assert contents(work / "made" / "encoder") == before
    assert [one.row for one in found[0].hits] != [one.row for one in first[0].hits[:2]]


def test_gradient_of_a_question_is_taken_once_for_both_sides(first, work, decoder, monkeypatch):
    taken = []
    features = GradientTeacher.features

    def counted(self, examples, role, *more):
        taken.append((role, len(examples)))
        return features(self, examples, role, *more)

    monkeypatch.setattr(GradientTeacher, "features", counted)
    trace(decoder, work / "pool.jsonl", work / "made", **QUESTION, k=2)
    assert taken.count(("query", 1)) == 1
    taken.clear()
    trace(decoder, work / "pool.jsonl", work / "made", **QUESTION, k=2, verify=5, certify=20)
    rows = [count for role, count in taken if role == "pool"]
    assert len(rows) == 1
    assert rows[0] <= 5 + 5 + 20 + 5  # the same random rows for both sides, but for those of the shortlists


def test_questions_of_a_file_and_the_models_own_answers(first, work, decoder):
    rows = [{"id": "a", "question": "Hello?", "answer": "world"}, {"id": "b", "question": "Two plus two?"}]
    found = trace(decoder, work / "pool.jsonl", work / "made", queries=rows, k=1)
    assert [(one.question.example.id, one.question.generated) for one in found] == [("a", False), ("b", True)]
    assert found[1].answer == decoder.answer(found[1].question.example, 64) != "?"
    written = [orjson.loads(line) for line in (work / "made" / "asked.jsonl").read_bytes().splitlines()]
    assert [row["messages"][-1]["content"] for row in written] == [one.answer for one in found]
    assert [one.example for one in read_questions(decoder, written, "asked")] == [one.question.example for one in found]


def test_model_that_answers_nothing_is_told(work, decoder, monkeypatch):
    monkeypatch.setattr(Decoder, "answer", lambda *_: "")
    with pytest.raises(DataError, match=r"answers 'Well' with nothing.*--completion"):
        trace(decoder, work / "pool.jsonl", work / "made", query="Well")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"decoder": "other"}, "decoder: '"),
        ({"pool": sentences(80, 3, "p")}, "pool: '"),
        ({"teacher": "gradient-cosine"}, "teacher: 'layer-cosine' there, 'gradient-cosine' now"),
        ({"sample": 41}, "sample: 40 there, 41 now"),
    ],
)
def test_what_was_made_otherwise_is_refused(first, work, changes, told):
    given = {"decoder": work / "decoder", "pool": work / "pool.jsonl"} | changes
    if given["decoder"] == "other":
        given["decoder"] = work / "other"
    with pytest.raises(StoreMismatch, match=rf"made otherwise: {told}.*another --output-dir, or --overwrite"):
        trace(output_dir=work / "made", **QUESTION, **given)


def test_sample_of_more_rows_than_there_are_is_all_of_them(first, work, decoder, tmp_path):
    for _ in range(2):
        trace(decoder, work / "pool.jsonl", tmp_path / "made", **QUESTION, sample=1000, budget=BEST)
    assert orjson.loads((tmp_path / "made" / "trace.json").read_bytes())["sample"] == 80


def test_folder_of_something_else_is_refused(work, decoder, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"notes\.txt and no trace\.json"):
        trace(decoder, work / "pool.jsonl", tmp_path, **QUESTION)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("given", [{}, {"completion": "four"}, {"query": "a", "queries": []}])
def test_no_question_or_two_kinds_of_it(work, decoder, tmp_path, given):
    with pytest.raises(ConfigError, match="what is asked"):
        trace(decoder, work / "pool.jsonl", tmp_path, **given)


@pytest.mark.parametrize("step", ["distill", "index_pool"])
def test_interrupted_run_goes_on_and_gives_the_same(first, work, decoder, tmp_path, monkeypatch, step):
    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(verb, step, killed)
        with pytest.raises(KeyboardInterrupt):
            trace(decoder, work / "pool.jsonl", tmp_path / "made", **QUESTION, sample=40, budget=BEST)
    # Asked something else meanwhile: the features stay those of the first question.
    told = []
    trace(decoder, work / "pool.jsonl", tmp_path / "made", query="Rome", completion="Italy", tell=told.append)
    assert told[0] == "Going on where an earlier run stopped."
    for name in ("features/queries", "features/pool", "encoder"):
        assert contents(tmp_path / "made" / name) == contents(work / "made" / name)


def test_prompts_like_those_to_be_asked_are_learnt_from(work, decoder, tmp_path):
    like = [{"prompt": f"{word} is ", "completion": "four"} for word in ("Two", "Rome")]
    trace(decoder, work / "pool.jsonl", tmp_path / "made", **QUESTION, like=like, sample=40, budget=BEST)
    found = orjson.loads((tmp_path / "made" / "features" / "metrics.json").read_bytes())
    assert found["queries"] == 3


# What the budget allows


def chosen(decoder, monkeypatch, speeds, budget, rows=2000, probing=0.0):
    """The plan where `speeds` gives the rows a second of gradients, and of the students that are measured in turn."""
    measured = iter(speeds)

    def measure(*_):
        speed = next(measured)
        return {"rows": 1, "seconds": 1 / speed, "rows_per_second": speed}

    monkeypatch.setattr("influcoder.verbs.cost.measured_speed", measure)
    times = iter([0.0])
    monkeypatch.setattr("influcoder.verbs.plan.time", SimpleNamespace(perf_counter=lambda: next(times, probing)))
    teacher = make_teacher(decoder, TeacherSettings(rank=4, width=512))
    plan = plan_trace(teacher, sentences(1, 0, "q"), Drawn(sentences(min(rows, 1000), 1, "p"), rows), budget)
    assert next(measured, None) is None  # as many were measured as are needed
    return plan.effort, plan.sample


def test_the_greatest_effort_that_fits_and_the_largest_sample_beside_it(decoder, monkeypatch):
    assert chosen(decoder, monkeypatch, [20, 50], 120) == (tokens(80), (82 - 40) / (1 / 20 + 2 / 50) // 1)
    assert chosen(decoder, monkeypatch, [20, 50], 10_000) == (tokens(80), 1000)
    assert chosen(decoder, monkeypatch, [20, 50], 120, probing=10) == (tokens(80), (73.5 - 40) / (1 / 20 + 2 / 50) // 1)
    assert chosen(decoder, monkeypatch, [20, 50], 120, rows=30) == (tokens(80), 30)


def test_fewer_tokens_where_the_pool_takes_too_long(decoder, monkeypatch):
    """What cannot fit, since a token takes as long as before, is not measured."""
    sample = (82 - 2000 / 60) / (1 / 20 + 2 / 60) // 1
    assert chosen(decoder, monkeypatch, [20, 25, 60], 120) == (tokens(60), sample)
    assert chosen(decoder, monkeypatch, [20, 16, 60], 120) == (tokens(40), sample)
    assert chosen(decoder, monkeypatch, [20, 25, 24, 60], 120) == (tokens(40), sample)
    assert chosen(decoder, monkeypatch, [20, 25], 120, rows=10**6) == (STATIC, 1000)
    assert chosen(decoder, monkeypatch, [1], 60) == (STATIC, 100)


def tokens(count):
    return Effort(1.0, count, backward=True)


def test_what_is_spent_before_the_plan_is_not_spent_again(decoder, monkeypatch, tmp_path):
    """Reading the rows takes 3 s of a clock that only this moves."""
    now, budgets = [100.0], []

    def read(*_):
        now[0] += 3
        return Drawn(sentences(40, 1, "p"), 40)

    def planned(*arguments):
        budgets.append(arguments[3])
        raise KeyboardInterrupt

    monkeypatch.setattr("influcoder.verbs.trace.time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr("influcoder.verbs.trace.draw", read)
    monkeypatch.setattr("influcoder.verbs.trace.plan_trace", planned)
    with pytest.raises(KeyboardInterrupt):
        trace(decoder, sentences(40, 1, "p"), tmp_path / "made", **QUESTION, budget=10)
    assert budgets == [7]


def test_plan_that_is_measured_holds(decoder):
    teacher = make_teacher(decoder, TeacherSettings(rank=4, width=512))
    plan = plan_trace(teacher, sentences(1, 0, "q"), Drawn(sentences(60, 1, "p"), 60), BEST)
    assert (plan.effort, plan.sample, plan.rows) == (SHORT, 60, 60)
    assert plan.gradients > 0
    assert np.isfinite(plan.seconds)
