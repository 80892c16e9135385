"""`influcoder benchmark toxicity | counterfact | selection` on made-up corpora with a tiny decoder."""

import time
from dataclasses import replace

import numpy as np
import orjson
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import auc, average_precision_score, precision_recall_curve

from helpers.commands import refused
from helpers.corpora import write_corpora, write_rows
from helpers.forks import Fork, command
from helpers.processes import kill
from helpers.tiny import save_decoder
from influcoder.benchmarks.corpora.corpora import toxicity
from influcoder.benchmarks.corpora.facts import FactSource, _facts, taught_by
from influcoder.benchmarks.methods.registry import TASK_METHODS
from influcoder.benchmarks.results.tables import not_reached
from influcoder.benchmarks.settings import CounterfactSettings, FactBudget, SelectionSettings, ToxicitySettings
from influcoder.benchmarks.tasks.counterfact import fact_problem
from influcoder.benchmarks.tasks.selection import CROSSED, mixed_problem
from influcoder.benchmarks.tasks.selection_rules import RULES, choose_rows
from influcoder.benchmarks.tasks.toxicity import request, toxic_problem
from influcoder.data.examples import Example
from influcoder.errors import ConfigError, DataError
from influcoder.maths.metrics import precision_recall_areas, retrieval, retrieval_rows

TASKS = ("toxicity", "counterfact", "selection")
FEW = FactBudget(pairs=2, statements=3, asked=1, singles=3)
SMALL_FACTS = CounterfactSettings(seeds=1, test=FEW, train=FEW, unlabelled=replace(FEW, pairs=1, singles=2))
SCORES = arrays.arrays(np.float64, st.integers(2, 30), elements=st.sampled_from([-1.0, 0.0, 0.5, 2.0, 3.0]))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_corpora(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def work(tmp_path_factory, chat_tokenizer):
    folder = tmp_path_factory.mktemp("tasks")
    save_decoder(folder / "decoder", chat_tokenizer, layers=1)
    return folder


def words(task, work, data, folder):
    decoder = ["--decoder", work / "decoder", "--data", data, "--max-length", "48"]
    return [str(word) for word in ("benchmark", task, *decoder, "--quick", "--output-dir", folder)]


def calm(task, work, data, call):
    folder = work / task
    if not (folder / "metrics.json").exists():
        status, out, err = call(*words(task, work, data, folder), "--json")
        assert status == 0, err
        assert orjson.loads(out) == orjson.loads((folder / "metrics.json").read_bytes())
    return folder


def numbers(folder):
    """A run's numbers but for what a clock or the memory says."""
    found = orjson.loads((folder / "metrics.json").read_bytes())
    for method in found["methods"].values():
        for name in ("examples_per_second", "learning_seconds", "memory_mb", "cost_share"):
            assert method.pop(name) >= 0
    return found


@pytest.mark.parametrize("task", TASKS)
def test_every_method_is_measured(task, work, data, call):
    folder = calm(task, work, data, call)
    found = numbers(folder)
    assert set(found["skipped"]) == {"adapter", "paper-recipe", "untrained"}
    assert set(found["methods"]) == set(TASK_METHODS) - set(found["skipped"])
    assert found["audit"]["overlap"] == 0
    assert "queries / train pool" in found["audit"]["checked"] or "pool / train pool" in found["audit"]["checked"]
    assert {"train pool / unlabelled pool", "queries / unlabelled queries"} <= set(found["audit"]["checked"])
    assert set(found["sanity"]["methods"]) == set(found["methods"])
    from_short, alone = (
        safetensors.numpy.load_file(folder / "seed-0" / "scores" / f"{name}.safetensors")["scores"]
        for name in ("influcoder-static-from-short", "influcoder")
    )
    assert not np.array_equal(from_short, alone)
    text = (folder / "results.md").read_text(encoding="utf-8")
    assert all(f"| {name} |" in text for name in found["methods"])
    assert "overlap 0" in text


def test_toxicity_has_both_rankings_and_both_areas(work, data, call):
    for one in numbers(calm("toxicity", work, data, call))["methods"].values():
        for ranking in ("heterogeneous", "homogeneous"):
            for measure in ("auprc", "average_precision"):
                low, high = one[ranking][measure]["interval_95"]
                assert 0 <= low <= high <= 1
        # Without the refusals an unsafe row can only come sooner.
        assert (
            one["homogeneous"]["average_precision"]["mean"] >= one["heterogeneous"]["average_precision"]["mean"] - 1e-9
        )


def test_no_toxic_text_is_written_or_shown(work, data, call):
    folder = calm("toxicity", work, data, call)
    texts = [part for one in toxicity(data) for part in (one.prompt, one.completion)]
    for name in ("metrics.json", "results.md", "config.toml"):
        written = (folder / name).read_text(encoding="utf-8")
        assert not [text for text in texts if text in written]


def test_counterfact_says_what_taught(work, data, call):
    found = numbers(calm("counterfact", work, data, call))
    assert set(found["taught"]) == {"statement", "substitution"}
    for one in found["methods"].values():
        assert 0 <= one["all"]["recall_at_50"]["mean"] <= 1
        assert 0 < one["all"]["mrr"]["mean"] <= 1


def test_selection_crosses_representations_with_rules(work, data, call):
    found = numbers(calm("selection", work, data, call))
    assert set(found["crossed"]) == set(CROSSED)
    assert all(set(one) == set(RULES) for one in found["crossed"].values())
    by_chance = [one["gain"]["all"]["mean"] for one in found["crossed"]["random"].values()]
    assert np.mean(by_chance) == pytest.approx(0, abs=1e-5)
    assert found["methods"]["tfidf"]["loss"] == found["crossed"]["tfidf"]["round-robin"]["loss"]
    assert set(found["beside"]) == {"untouched", "all"}


def test_methods_that_are_asked_for_are_compared_with_those_all_is_held_against(work, data, call, tmp_path):
    asked = [*words("selection", work, data, tmp_path / "few"), "--methods", "rds+", "tfidf"]
    status, out, err = call(*asked, "--json")
    assert status == 0, err
    found = orjson.loads(out)
    assert set(found["methods"]) == {"random", "tfidf", "gradient-cosine", "randomised", "rds+"}
    assert set(found["crossed"]) == {"random", "randomised", "tfidf", "gradient-cosine", "rds+"}
    assert found["methods"]["tfidf"]["loss"] == numbers(calm("selection", work, data, call))["methods"]["tfidf"]["loss"]
    unknown = [*words("selection", work, data, tmp_path / "none"), "--methods", "tf-idf"]
    refused(call(*unknown), "methods: tf-idf, expected some of random, tfidf")


def test_a_killed_run_is_resumed_to_the_same_numbers(work, data, call, tmp_path):
    killed = tmp_path / "killed"
    flags = words("counterfact", work, data, killed)
    process = Fork(command, *flags)
    begin = time.monotonic()
    while len(list(killed.glob("seed-0/scores/*.safetensors"))) < 4 and time.monotonic() - begin < 400:
        time.sleep(0.002)
    assert kill(process)
    kept = {path: path.stat().st_mtime_ns for path in killed.glob("seed-0/scores/*.safetensors")}
    assert 4 <= len(kept) < len(TASK_METHODS)
    status, _, err = call(*flags, "--resume")
    assert status == 0, err
    assert numbers(killed) == numbers(calm("counterfact", work, data, call))
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_toxic_problem_keeps_sources_and_requests_apart(data):
    settings = ToxicitySettings(benign=101, references=5, train_queries=12, train_pool=36)
    problem = toxic_problem(data, settings, seed=3)
    by_side = {name: {one.metadata.get("source", "plain") for one in side} for name, side in problem.sides().items()}
    assert by_side["pool"] == {"plain", "xstest"}
    assert by_side["queries"] == {"jailbreakbench"}
    assert by_side["train queries"] == by_side["validation queries"] == {"harmbench"}
    assert by_side["train pool"] == by_side["unlabelled pool"] == {"plain", "advbench"}
    assert by_side["unlabelled queries"] == {"harmbench"}
    labels = [one.metadata.get("label", "benign") for one in problem.pool]
    assert (labels.count("benign"), labels.count("unsafe"), labels.count("safe_refusal")) == (101, 1, 2)
    assert {one.metadata["origin"] for one in problem.queries} == {"Original"}
    asked = problem.queries, *problem.train, *problem.validation, *problem.unlabelled
    requests = [request(one) for side in asked for one in side]
    assert len(set(requests)) == len(requests)


def test_pools_that_hide_nothing_are_refused():
    with pytest.raises(ConfigError, match="benign is 100, expected at least 101"):
        ToxicitySettings(benign=100)
    for settings in (ToxicitySettings, CounterfactSettings, SelectionSettings):
        with pytest.raises(ConfigError, match="seeds is 0"):
            settings(seeds=0)
    with pytest.raises(ConfigError, match="a share of one row or more"):
        SelectionSettings(rows=5, share=0.05)


def test_relevance_is_that_of_datelm(data):
    problem = fact_problem(data, SMALL_FACTS, seed=0)
    relevant = taught_by(problem.queries, problem.pool)
    kinds = np.array([one.metadata["kind"] for one in problem.pool])
    for query, row in zip(problem.queries, relevant, strict=True):
        stated = [one for one, is_it in zip(problem.pool, row, strict=True) if is_it]
        assert len(stated) == 3
        assert {one.completion for one in stated} == {query.completion}
        subjects = {one.metadata["subject"] for one in stated}
        same = query.metadata["subject"] in subjects
        assert same == (query.metadata["kind"] == "statement")
        assert len(subjects) == (1 if same else 3)
        assert set(kinds[row]) == {query.metadata["kind"]}
        # The true object is in no relevant text: the decoder must know it.
        assert not any(query.metadata["pair"][1] in one.prompt + one.completion for one in stated if same)
    known = {one.metadata["subject"]: one.completion.strip() for one in problem.others["knowledge"]}
    assert all(known[one.metadata["subject"]] == one.metadata["pair"][1] for one in (*problem.pool, *problem.queries))


def test_look_alikes_share_the_words_and_carry_no_fact(data):
    problem = fact_problem(data, SMALL_FACTS, seed=0)
    for query in problem.queries:
        mine = [one for one in problem.pool if one.metadata["subject"] == query.metadata["subject"]]
        kinds = [one.metadata["kind"] for one in mine]
        assert kinds.count("true") == 1
        assert kinds.count("mention") == 3
        for one in mine:
            if one.metadata["kind"] == "mention":
                assert query.completion.strip() in one.prompt
                assert query.metadata["subject"] in one.prompt
                assert query.completion != one.completion
            if one.metadata["kind"] == "true":
                assert (one.prompt, one.completion) == (query.prompt, f" {query.metadata['pair'][1]}")
    for one in problem.pool:
        if one.metadata["kind"] == "object":
            assert one.metadata["pair"] not in {query.metadata["pair"] for query in problem.queries}


def test_no_fact_is_drawn_twice(data):
    source = FactSource(data, np.random.default_rng(0))
    sides = [source.draw(FEW) for _ in range(3)]
    subjects = [{one.metadata["subject"] for one in (*side.queries, *side.pool)} for side in sides]
    assert not subjects[0] & subjects[1]
    assert not (subjects[0] | subjects[1]) & subjects[2]
    with pytest.raises(DataError, match="pairs of objects with 1 subjects or more, 99 are needed"):
        source.draw(replace(FEW, singles=99))


def test_a_prompt_in_other_case_or_spacing_is_the_same_prompt(data):
    """The true fact that is taught before must not be the text that stands in the pool."""
    for fact in _facts(data):
        alike = [" ".join(prompt.lower().split()) for prompt in fact.prompts]
        assert len(set(alike)) == len(alike)
        assert fact.prompts[0] == f"{fact.subject} is found in"


def test_missing_templates_are_named(data, tmp_path):
    write_rows(tmp_path, "counterfact", [])
    with pytest.raises(DataError, match=r"pararel_templates\.json: cannot be read"):
        FactSource(tmp_path, np.random.default_rng(0))


def test_mixed_problem_has_test_rows_of_each_task(data):
    settings = SelectionSettings(
        tasks=("math", "sql"),
        rows=60,
        share=0.1,
        queries=3,
        test=5,
        train_queries=12,
        train_pool=24,
        unlabelled=(9, 30),
    )
    problem = mixed_problem(data, settings, seed=0)
    test = problem.others["test"]
    assert [one.metadata["genre"] for one in test] == ["math"] * 5 + ["sql"] * 5
    assert list(problem.kinds) == ["math"] * 3 + ["sql"] * 3
    assert [one.metadata["genre"] for one in problem.queries] == list(problem.kinds)
    assert len(problem.pool) == 60
    others, more = problem.unlabelled
    assert {one.id.partition("-")[0] for one in others} == {"chat"}
    assert {one.id.partition("-")[0] for one in more} == {"chat", "dolly"}
    held = {one.id for side in problem.sides().values() for one in side}
    assert len(held) == sum(map(len, problem.sides().values()))
    with pytest.raises(DataError, match="80 rows of genre 'math', more than 85"):
        mixed_problem(data, SelectionSettings(tasks=("math",), test=77), seed=0)


def test_the_pool_keeps_rows_of_the_tasks(data):
    """They were once all set aside as queries and test rows, so that no rule had any to find."""
    few = {"train_queries": 12, "train_pool": 24, "unlabelled": (9, 30)}
    settings = SelectionSettings(tasks=("math", "sql"), rows=60, share=0.1, queries=10, test=20, **few)
    for seed in range(3):
        genres = [one.metadata.get("genre") for one in mixed_problem(data, settings, seed).pool]
        assert genres.count("math") >= 8
        assert genres.count("sql") >= 8


def test_unknown_genre_is_refused(work, data, call, tmp_path):
    result = call(*words("selection", work, data, tmp_path / "out"), "--tasks", "poetry")
    refused(result, "0 rows of genre 'poetry'")


@given(SCORES, st.data())
def test_areas_are_those_of_scikit_learn(scores, draw):
    relevant = np.array(draw.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores))))
    relevant[draw.draw(st.integers(0, len(scores) - 1))] = True
    trapezoid, steps = precision_recall_areas(scores, relevant)
    precision, recall, _ = precision_recall_curve(relevant, scores)
    assert trapezoid[0] == pytest.approx(auc(recall, precision))
    assert steps[0] == pytest.approx(average_precision_score(relevant, scores))


@given(SCORES, st.data())
def test_weights_are_copies_of_rows(scores, draw):
    relevant = np.arange(len(scores)) % 2 == 0
    weights = np.array(draw.draw(st.lists(st.integers(0, 3), min_size=len(scores), max_size=len(scores))), float)
    weights[0] = 1
    copies = np.repeat(np.arange(len(scores)), weights.astype(int))
    weighted = precision_recall_areas(scores, relevant, weights[None])
    plain = precision_recall_areas(scores[copies], relevant[copies])
    assert [one[0] for one in weighted] == pytest.approx([one[0] for one in plain])


def test_retrieval_is_that_of_datelm():
    """Plain: the share of the relevant rows in the top k, and 1 / the lowest rank of one."""
    rng = np.random.default_rng(0)
    scores, relevant = rng.standard_normal((8, 40)), rng.random((8, 40)) < 0.2
    relevant[:, 0] = True
    recall, reciprocal = retrieval_rows(scores, relevant, 10)
    for q in range(8):
        order = list(np.argsort(-scores[q]))
        places = [order.index(x) for x in np.flatnonzero(relevant[q])]
        assert recall[q] == sum(place < 10 for place in places) / len(places)
        assert reciprocal[q] == 1 / (min(places) + 1)
    assert retrieval(scores, relevant, 10) == {"recall_at_10": recall.mean(), "mrr": reciprocal.mean()}


@pytest.mark.parametrize("rule", RULES)
@given(st.integers(1, 5), st.integers(1, 20), st.integers(1, 25), st.integers(0, 2**32 - 1))
def test_rules_choose_different_rows_under_the_budget(rule, queries, pool, budget, seed):
    scores = np.random.default_rng(seed).standard_normal((2, queries, pool))
    rows = [Example(str(n), f"{n} {n * n}", f"{n**3}", (), {"genre": f"{n % 2}"}) for n in range(pool)]
    found = choose_rows(rule, *scores, budget, rows)
    assert len(set(found.tolist())) == len(found) <= min(budget, pool)
    if rule != "capped":
        assert len(found) == min(budget, pool)


def test_rules_of_known_scores():
    scores = np.array([[1.0, 0.6, 0.5, 0.0], [0.0, 0.6, 0.1, 0.9]])
    others = np.array([[0.9, 0.0, 0.0, 0.0]])
    texts = ["the same few words", "others", "the same few words", "more"]
    rows = [Example(str(n), "", text, (), {"genre": "a" if n < 2 else "b"}) for n, text in enumerate(texts)]
    expected = {"top": [0, 1, 3], "contrast": [1, 2, 3], "distinct": [0, 1, 3], "capped": [1, 3]}
    assert {rule: choose_rows(rule, scores, others, 3, rows).tolist() for rule in expected} == expected
    assert choose_rows("distinct", scores, others, 4, rows).tolist() == [0, 1, 3]


def methods_with(**values):
    return {"methods": {name.replace("_", "-"): {"value": value, "cost_share": 0.2} for name, value in values.items()}}


def test_what_is_not_reached_is_said():
    rivals = {"paper_recipe": 0.5, "untrained": 0.2, "tfidf": 0.1}
    reached = methods_with(influcoder=0.6, cascade=0.95, gradient_cosine=1.0, **rivals)
    text = not_reached(reached, "MRR", lambda one: one["value"], ("tfidf",))
    assert "Ahead of paper-recipe (0.500), untrained (0.200), tfidf (0.100)." in text
    assert "95% of exact Grad-Cos's score" in text
    assert "**" not in text
    short = methods_with(influcoder=0.3, cascade=0.5, gradient_cosine=1.0, **rivals)
    text = not_reached(short, "MRR", lambda one: one["value"], ("tfidf",))
    assert "**Not ahead of paper-recipe (0.500).**" in text
    assert "wanted 90% at 25%.**" in text
    assert "Best of all: gradient-cosine (1.000)." in text
    without = not_reached(methods_with(influcoder=0.3, gradient_cosine=0.2), "MRR", lambda one: one["value"])
    assert without == "MRR: the best of ours is influcoder (0.300)."
    reached["methods"]["cascade"]["cost_share"] = 0.3
    assert "wanted 90% at 25%.**" in not_reached(reached, "MRR", lambda one: one["value"])
