"""`influcoder benchmark fidelity` on made-up corpora with a tiny decoder."""

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest

from helpers.tiny import tiny_decoder
from influcoder.benchmarks.corpora.corpora import facts, states, tasks
from influcoder.benchmarks.corpora.problem import NOTHING
from influcoder.benchmarks.results.frontier import frontier
from influcoder.benchmarks.results.tables import fidelity_tables
from influcoder.benchmarks.settings import Budget, FidelitySettings
from influcoder.benchmarks.tasks.fidelity import Fidelity
from influcoder.errors import ConfigError, DataError, StoreMismatch
from influcoder.evaluation.evaluate import count_overlap

BUDGET = Budget(train_queries=30, train_pool=60, test_queries=10, test_pool=30, more_queries=40, more_pool=120)
WITHOUT_MORE = replace(BUDGET, more_queries=0, more_pool=0)
WORDS = ["Paris", "Rome", "Madrid", "capital", "France", "Italy", "two", "four", "seven", "hello", "world", "is"]


def sentence(rng, low, high):
    return " ".join(rng.choice(WORDS, rng.integers(low, high)))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("data")
    corpora = {
        "bbh": [{"task": "t", "input": f"{sentence(rng, 3, 9)} {n}", "target": sentence(rng, 1, 3)} for n in range(90)],
        "dolly": [
            {"instruction": f"{sentence(rng, 2, 6)} {n}", "context": "", "response": sentence(rng, 2, 20)}
            for n in range(200)
        ],
        "benign_chat": [
            {"prompt": f"{sentence(rng, 2, 6)} {n}", "response": sentence(rng, 2, 20), "genre": "math"}
            for n in range(200)
        ],
        "counterfact": [
            {
                "case_id": n,
                "subject": f"subject{n}",
                "prompt": f"subject{n} lives in",
                "target_new": "Rome",
                "target_true": "Paris",
                "paraphrase_prompts": [f"the home of subject{n} is"],
                "neighborhood_prompts": [{"prompt": f"other{n} lives in", "target": "Paris"}],
            }
            for n in range(80)
        ],
    }
    for name, rows in corpora.items():
        (folder / name).mkdir()
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / name / f"{name}.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    return folder


@pytest.mark.parametrize("pool", ["dolly", "benign_chat"])
def test_tasks_do_not_overlap(data, pool):
    problem = tasks(data, pool, BUDGET, seed=1)
    assert [len(side) for side in (*problem.train, problem.queries, problem.pool)] == [30, 60, 10, 30]
    assert count_overlap(problem.train.queries, problem.queries) == 0
    assert count_overlap(problem.train.pool, problem.pool) == 0
    assert tasks(data, pool, BUDGET, seed=1) == problem
    assert tasks(data, pool, BUDGET, seed=2) != problem


@pytest.mark.parametrize(
    ("draw", "sizes"),
    [(lambda *given: tasks(given[0], "dolly", *given[1:]), [40, 110]), (facts, [36, 120])],
    ids=["tasks", "facts"],
)
def test_unlabelled_is_what_the_corpus_still_has(data, draw, sizes):
    problem, without = (draw(data, budget, 1) for budget in (BUDGET, WITHOUT_MORE))
    assert replace(problem, unlabelled=NOTHING) == replace(without, unlabelled=NOTHING)
    assert not any(without.unlabelled)
    assert [len(side) for side in problem.unlabelled] == sizes
    for role in ("queries", "pool"):
        others = [*getattr(problem.train, role), *getattr(problem, role)]
        assert count_overlap(getattr(problem.unlabelled, role), others) == 0


def test_facts_have_their_statement_and_look_alikes_in_the_pool(data):
    problem = facts(data, BUDGET, seed=0)
    for queries, pool in (problem.train, (problem.queries, problem.pool)):
        stated = states(queries, pool)
        assert stated.sum(axis=1).tolist() == [1] * len(queries)
        kinds = [row.metadata.get("kind", "plain") for row in pool]
        assert {kinds.count(kind) for kind in ("statement", "same-subject", "same-object")} == {len(queries)}
        assert kinds.count("plain") == len(pool) - 3 * len(queries)
    subjects = [{query.metadata["fact"] for query in side} for side in (problem.train.queries, problem.queries)]
    assert not subjects[0] & subjects[1]


def test_missing_and_small_corpora_are_named(data, tmp_path):
    with pytest.raises(DataError, match=r"bbh\.jsonl\.gz: not there"):
        tasks(tmp_path, "dolly", BUDGET, seed=0)
    with pytest.raises(DataError, match="dolly: 200 different examples, 1030 are needed"):
        tasks(data, "dolly", replace(BUDGET, train_pool=1000), seed=0)


@pytest.fixture(scope="module")
def run(chat_tokenizer, data, tmp_path_factory):
    chat_decoder = tiny_decoder("llama", chat_tokenizer, layers=1)
    folder = tmp_path_factory.mktemp("fidelity")
    settings = FidelitySettings(seeds=1, budget=BUDGET, shares=(0.5,), times=(2, 4))
    return Fidelity(chat_decoder, settings, data).run(folder), chat_decoder, folder, settings


def bench_of(decoder, settings, data, folder):
    """The bench of Dolly and seed 0."""
    corpus = Fidelity(decoder, settings, data).corpora["dolly"]
    return corpus.bench(corpus.draw(0), 0, folder / corpus.folder_name(0))


def test_every_method_on_every_corpus(run):
    found = run[0]
    assert found["splits"]["overlap"] == 0
    assert set(found["corpora"]) == {"dolly", "benign_chat", "facts"}
    ours = {
        "static-from-short",
        "static-from-short-exact-query",
        "static",
        "static-exact-query",
        "static-exact-query-int8",
        "forward",
        "forward-exact-query",
    }
    for corpus in found["corpora"].values():
        assert ours | {"surface", "tfidf", "bm25", "random", "exact"} <= set(corpus["methods"])
        assert corpus["methods"]["exact"]["per_query_spearman"] > 0.8
        assert all(len(one["seeds"]["per_query_spearman"]) == 1 for one in corpus["methods"].values())
    assert "static from dolly" in found["corpora"]["benign_chat"]["methods"]
    assert set(found["corpora"]["facts"]["recall"]) >= {"static", "cascade", "teacher", "random"}


def test_a_second_seed_is_averaged_in(run, data):
    found, decoder, folder, settings = run
    both = Fidelity(decoder, replace(settings, seeds=2, corpora=("facts",)), data).run(folder)["corpora"]["facts"]
    for name, method in both["methods"].items():
        seeds = method["seeds"]["per_query_spearman"]
        assert seeds[:1] == found["corpora"]["facts"]["methods"][name]["seeds"]["per_query_spearman"]
        assert len(seeds) == 2
        assert method["per_query_spearman"] == pytest.approx(np.mean(seeds))


def test_sizes_are_those_that_were_drawn(run):
    sizes = {name: one["examples"] for name, one in run[0]["corpora"].items()}
    assert sizes["dolly"] == {"train": [30, 60], "test": [10, 30], "more": [40, 110]}
    assert sizes["facts"] == {"train": [18, 60], "test": [9, 30], "more": [36, 120]}
    assert "18 queries x 60 pool rows to learn from (15 % of them for validation), 9 x 30 to" in fidelity_tables(run[0])


def test_a_folder_of_other_settings_is_refused(run, data):
    _, decoder, folder, settings = run
    with pytest.raises(
        StoreMismatch, match=r"dolly-0.made_by.json: begun by another run: paper_epochs: 8 there, 2 now"
    ):
        Fidelity(decoder, replace(settings, paper_epochs=2), data).run(folder)


@pytest.mark.parametrize("teacher", ["layer-cosine", "logra"])
def test_the_truth_is_any_teachers(chat_tokenizer, data, tmp_path, teacher):
    few = {"seeds": 1, "budget": WITHOUT_MORE, "shares": (), "times": (), "corpora": ("dolly",)}
    settings = FidelitySettings(teacher=teacher, **few)
    decoder = tiny_decoder("llama", chat_tokenizer, layers=1)
    assert bench_of(decoder, settings, data, tmp_path).teacher().settings.name == teacher
    methods = Fidelity(decoder, settings, data).run(tmp_path)["corpora"]["dolly"]["methods"]
    assert methods["exact"]["per_query_spearman"] > 0.5
    assert methods["short"]["per_query_spearman"] > methods["random"]["per_query_spearman"]
    with pytest.raises(ConfigError, match="teacher is 'gradients', expected one of"):
        Fidelity(decoder, replace(settings, teacher="gradients"), data)


def test_some_of_the_corpora(run, data):
    found, decoder, folder, settings = run
    some = Fidelity(decoder, replace(settings, corpora=("benign_chat", "facts")), data).run(folder)["corpora"]
    assert list(some) == ["benign_chat", "facts"]
    assert some["facts"] == found["corpora"]["facts"]
    assert set(found["corpora"]["benign_chat"]["methods"]) - set(some["benign_chat"]["methods"]) == {
        "static from dolly"
    }
    for wrong in ((), ("dolly", "pile")):
        with pytest.raises(ConfigError, match="expected some of dolly, benign_chat, facts"):
            replace(settings, corpora=wrong)


@pytest.mark.parametrize("small", [{"train_queries": 29}, {"train_pool": 0}, {"test_queries": 1}, {"more_pool": -1}])
def test_a_budget_that_is_too_small_is_refused(small):
    ((name, value),) = small.items()
    with pytest.raises(ConfigError, match=f"{name} is {value}, expected at least"):
        Budget(**small)


def test_the_curve_goes_beyond_the_training_pool_as_far_as_the_corpus(run):
    corpora = run[0]["corpora"]
    rows = [30, 60, 120, 170]
    names = ["static, 0.5 of the examples", "static", "static, 2 times the pool", "static, 3 times the pool"]
    assert corpora["dolly"]["curve"] == pytest.approx(dict(zip(names, rows, strict=True)))
    assert corpora["facts"]["curve"]["static, 3 times the pool"] == 180
    methods = corpora["dolly"]["methods"]
    assert {"surface, 3 times the pool", "static-exact-query, 3 times the pool", *names} <= set(methods)


def test_an_enlarged_sample_begins_with_the_training_pool(run, data):
    _, decoder, folder, settings = run
    bench = bench_of(decoder, settings, data, folder)
    once, twice = bench.all_samples(), replace(bench, share=2).all_samples()
    expected = [*once.pool, *bench.problem.unlabelled.pool[:60]]
    assert [row.id for row in twice.pool] == [row.id for row in expected]
    np.testing.assert_array_equal(twice.pool_features[:60], once.pool_features)
    assert len(twice.pool_features) == 120
    assert twice.queries == once.queries


def test_longer_shortlists_keep_more(run):
    for corpus in run[0]["corpora"].values():
        for each in corpus["shortlists"].values():
            assert list(each.values()) == sorted(each.values())


def test_int8_is_as_good_and_half_as_large(run):
    methods = run[0]["corpora"]["dolly"]["methods"]
    whole, small = methods["static-exact-query"], methods["static-exact-query-int8"]
    assert small["per_query_spearman"] == pytest.approx(whole["per_query_spearman"], abs=0.02)
    assert small["bytes_per_example"] == whole["bytes_per_example"] / 2


def test_a_second_run_takes_up_what_is_there(run, data):
    found, decoder, folder, settings = run
    again = Fidelity(decoder, settings, data).run(folder)
    assert again == found


def test_tables_and_figure_are_made(run):
    text = fidelity_tables(run[0])
    assert "### facts" in text
    assert "| static-exact-query |" in text
    drawn = frontier(run[0])
    assert b"<svg" in drawn
    assert frontier(run[0]) == drawn
