"""The rivals, what they cost, the leak audit and the sanity checks."""

import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from helpers.sentences import sentences
from helpers.tiny import tiny_decoder
from influcoder.benchmarks.corpora.problem import Problem, Split
from influcoder.benchmarks.methods import bench as benches
from influcoder.benchmarks.methods.airrep import LEAST_GROUPS, GroupStudent, affordable_groups, group_loss
from influcoder.benchmarks.methods.bench import PSEUDO, Bench
from influcoder.benchmarks.methods.cost import Parts, memory_taken
from influcoder.benchmarks.methods.registry import METHODS, MODEL_METHODS, TASK_METHODS, left_out, with_needed
from influcoder.benchmarks.methods.rivals import Cascade, PointwiseRegressor, question_cost, with_shuffled_weights
from influcoder.benchmarks.methods.scored import score_methods
from influcoder.benchmarks.results.estimates import costs
from influcoder.benchmarks.results.sanity import hubness, length_dependence, sanity_of
from influcoder.data.examples import Example
from influcoder.errors import DataError, StoreMismatch
from influcoder.evaluation.evaluate import Scored
from influcoder.evaluation.methods import Method
from influcoder.maths.metrics import spearman_rows
from influcoder.model.finetune import FinetuneSettings
from influcoder.student.effort import STATIC

TUNING = FinetuneSettings(epochs=1, rows_a_step=8, precision="fp32")


@pytest.fixture(scope="module")
def bench(tokenizer, tmp_path_factory):
    decoder = tiny_decoder("llama", tokenizer)
    problem = Problem(
        sentences(30, 1, "p"),
        sentences(6, 2, "q"),
        ["q"] * 6,
        Split(sentences(24, 3, "tq"), sentences(40, 4, "tp")),
        Split(sentences(8, 5, "vq"), sentences(12, 6, "vp")),
    )
    folder = tmp_path_factory.mktemp("bench")
    return Bench(decoder, decoder, problem, folder, trained_on=problem.pool, tuning=TUNING)


@pytest.fixture(scope="module")
def exact(bench):
    return METHODS["gradient-cosine"].make(bench).score(bench.problem.queries, bench.problem.pool)


def test_every_rival_of_the_issue_has_a_name():
    words = {"random", "tfidf", "bm25", "surface", "untrained"}
    teachers = {"repsim", "rds+", "gradient-dot", "gradient-cosine", "less", "logra", "lorif", "gist", "trackstar"}
    assert words | teachers | {"trak", "datainf", "ekfac", "proxy", "paper-recipe", "airrep", "mates"} <= set(METHODS)
    assert {"influcoder", "influcoder-exact-query", "influcoder-forward", "cascade", "randomised"} <= set(METHODS)


def test_what_a_bench_cannot_have_is_named(bench):
    pseudo = {"influcoder-static-from-short", "influcoder-static-from-short-exact-query"}
    assert set(left_out(bench, MODEL_METHODS)) == {"adapter", "paper-recipe", "untrained", *pseudo}
    assert left_out(bench, ["tfidf", "untrained"]) == {"untrained": "no --backbone was given"}
    alone = Problem(bench.problem.pool, bench.problem.queries, bench.problem.kinds)
    without = left_out(replace(bench, problem=alone, backbone="some/backbone"), MODEL_METHODS)
    assert "training split" in without["paper-recipe"]
    assert "untrained" not in without


def test_a_rival_is_made_once_and_kept(bench, monkeypatch):
    made = []

    def noted(name, method):
        def make(parts):
            made.append(name)
            return method.make(parts)

        return Method(make, method.needs, method.costed_by)

    some = ("cascade", "influcoder", "mates", "airrep", "gradient-cosine", "random")
    for name in some:
        monkeypatch.setitem(METHODS, name, noted(name, METHODS[name]))
    found = score_methods(bench, some)
    assert score_methods(bench, some).keys() == found.keys() == set(some)
    assert len(made) == len(some)
    for name, one in found.items():
        assert one.scores.shape == (6, 30)
        assert np.isfinite(one.scores).all(), name
        assert one.seconds > 0
        assert one.memory_mb >= 0
    learning = {name: one.learning_seconds for name, one in found.items()}
    assert learning["cascade"] >= bench.parts._seconds["static"] + bench.parts._seconds["samples gradient-cosine"]
    assert learning["random"] < 0.1 * learning["influcoder"]


def test_students_learn_from_the_teacher_that_is_named(bench, tmp_path):
    other = replace(bench, folder=tmp_path, parts=Parts(), taught_by="layer-cosine")
    np.testing.assert_array_equal(*(one.samples("layer-cosine")[0].influence for one in (bench, other)))
    mine, theirs = (one.samples()[0].influence for one in (bench, other))
    assert np.abs(mine - theirs).max() > 0.01
    exact, learnt = (
        METHODS[name].make(other).score(other.problem.queries, other.problem.pool) for name in EXACT_AND_TAUGHT
    )
    again = METHODS["cascade"].make(other).score(other.problem.queries, other.problem.pool)
    listed = again > again.min(axis=1, keepdims=True) + 1
    assert listed.any()
    np.testing.assert_allclose(again[listed], learnt[listed], atol=1e-4)
    assert np.abs(again[listed] - exact[listed]).max() > 0.01


EXACT_AND_TAUGHT = ("gradient-cosine", "layer-cosine")


def test_only_the_pseudo_labelled_student_learns_from_unlabelled_text(bench, tmp_path, monkeypatch):
    learnt = []
    noted = lambda effort, *_, unlabelled, **__: learnt.append((effort, unlabelled))  # noqa: E731
    monkeypatch.setattr(benches, "distill_student", noted)
    unlabelled = Split(sentences(3, 91, "uq"), sentences(3, 92, "up"))
    more = replace(bench, folder=tmp_path, problem=replace(bench.problem, unlabelled=unlabelled), parts=Parts())
    for tier in ("static", PSEUDO):
        more.student(tier)
    assert learnt == [(STATIC, ((), ())), (STATIC, unlabelled)]


def test_the_papers_recipe_keeps_the_papers_teacher(bench, tmp_path, monkeypatch):
    taught = []

    def learn(backbone, queries, pool, influence, recipe):
        taught.append(influence)
        return SimpleNamespace(dim=1)

    monkeypatch.setattr(Bench, "untrained", lambda self: SimpleNamespace(backbone=None))
    monkeypatch.setattr(benches, "distill_paper", learn)
    for teacher in EXACT_AND_TAUGHT:
        METHODS["paper-recipe"].make(replace(bench, folder=tmp_path, parts=Parts(), taught_by=teacher))
    np.testing.assert_array_equal(*taught)


def test_the_teacher_is_compared_whatever_is_asked_for():
    assert with_needed(["tfidf"], TASK_METHODS, "layer-cosine") == (
        "random",
        "tfidf",
        "gradient-cosine",
        "layer-cosine",
        "randomised",
    )
    assert set(with_needed(None, TASK_METHODS, "rrinf")) == {*TASK_METHODS, "rrinf"}


def test_a_cascade_costs_what_its_teacher_costs(bench):
    seconds = {"gradient-cosine": 1.0, "less": 4.0, "influcoder": 0.1, "cascade": 9.0}
    found = {name: Scored(np.zeros((6, 30)), one, 0) for name, one in seconds.items()}
    asked = question_cost(6, 30)
    for teacher, share in (("gradient-cosine", asked + 0.1), ("less", 4 * asked + 0.1)):
        assert costs([found], bench.problem, teacher)["cascade"]["cost_share"] == pytest.approx(share)


def test_what_another_run_kept_is_not_gone_on_with(bench, tmp_path):
    mine = replace(bench, folder=tmp_path, parts=Parts())
    score_methods(mine, ["random"])
    assert set(score_methods(mine, ["random"])) == {"random"}
    other = replace(bench.problem, pool=bench.problem.pool[1:])
    for changed in (
        {"problem": other},
        {"seed": 1},
        {"taught_by": "logra"},
        {"tuning": replace(TUNING, epochs=2)},
        {"model": tiny_again(bench)},
    ):
        with pytest.raises(StoreMismatch, match=r"made_by\.json: begun by another run"):
            score_methods(replace(mine, **changed), ["random"])


def tiny_again(bench):
    return with_shuffled_weights(bench.model, 0)


def test_the_first_call_is_not_timed(bench, monkeypatch, tmp_path):
    class Cold:
        name, bytes_per_example, calls = "cold", 0, 0

        def score(self, queries, pool):
            Cold.calls += 1
            time.sleep(0.2 if Cold.calls == 1 else 0)
            return np.zeros((len(queries), len(pool)))

    monkeypatch.setitem(METHODS, "cold", Method(lambda bench: Cold()))
    found = score_methods(replace(bench, folder=tmp_path, parts=Parts()), ["cold"])["cold"]
    assert found.seconds < 0.1
    assert found.scores.shape == (6, 30)


def test_cascade_is_exact_on_its_shortlist_and_below_it_elsewhere(bench, exact):
    cascade = Cascade(bench.student("static"), bench.teacher(), share=0.2)
    scores = cascade.score(bench.problem.queries, bench.problem.pool)
    best = np.argsort(-scores, axis=1)[:, :6]
    np.testing.assert_allclose(np.take_along_axis(scores, best, 1), np.take_along_axis(exact, best, 1), atol=1e-5)
    rest = np.sort(scores, axis=1)[:, :-6]
    assert rest.max() < np.take_along_axis(scores, best, 1).min()


def test_cascade_of_one_question_has_one_shortlist(bench):
    cascade = Cascade(bench.student("static"), bench.teacher(), share=0.2, one_question=True)
    scores = cascade.score(bench.problem.queries, bench.problem.pool)
    assert len({tuple(sorted(row)) for row in np.argsort(-scores, axis=1)[:, :6].tolist()}) == 1


def test_cascade_of_the_whole_pool_is_the_teacher(bench, exact):
    scores = Cascade(bench.student("static"), bench.teacher(), share=1.0).score(
        bench.problem.queries, bench.problem.pool
    )
    np.testing.assert_allclose(scores, exact, atol=1e-5)


def test_cost_of_a_question():
    assert question_cost(10, 1000, 0.2) == pytest.approx(201 / 1001)
    assert question_cost(10, 1000, 0.2, one_question=True) == pytest.approx(210 / 1010)


def test_regressor_learns_the_mean_influence(bench):
    """What can be read off a text exactly is regressed exactly."""

    class Lengths:
        def features(self, examples, role, advance=None):
            values = [[1.0 if role == "query" else float(len(one.completion))] for one in examples]
            return type("Features", (), {"vectors": np.array(values)})

    train, validation = bench.samples()
    lengths = [len(one.completion) for one in bench.problem.pool]

    def with_lengths(sample):
        values = np.array([[float(len(one.completion))] for one in sample.pool])
        return type(sample)(sample.queries, sample.pool, np.ones((len(sample.queries), 1)), values)

    def read(examples):
        return np.array([[len(one.completion), 1.0] for one in examples])

    regressor = PointwiseRegressor(read, Lengths(), bench.problem.queries)
    scores = regressor.fit(with_lengths(train), with_lengths(validation)).score(
        bench.problem.queries, bench.problem.pool
    )
    assert (scores == scores[0]).all()
    assert spearman_rows(np.array([lengths]), scores[:1])[0] > 0.99


def test_groups_cost_no_more_than_our_gradients():
    for queries, pool in ((40, 300), (120, 600), (500, 1000)):
        count = affordable_groups(queries, pool)
        assert count * (3 * 16 + queries) <= 3 * (queries + pool)
        assert (count + 1) * (3 * 16 + queries) > 3 * (queries + pool)
    assert affordable_groups(2, 4) == LEAST_GROUPS


def test_group_loss_is_least_where_groups_rank_as_their_losses():
    rng = np.random.default_rng(0)
    groups = np.stack([rng.permutation(10)[:4] for _ in range(6)])
    targets = torch.from_numpy(rng.standard_normal((3, 6)).astype(np.float32))

    def of(scores):
        return float(group_loss(scores, groups, targets))

    # Slow and plain: every pair of groups of every query.
    scores = torch.from_numpy(rng.standard_normal((3, 10)).astype(np.float32))
    total = 0.0
    for q in range(3):
        pooled = []
        for group in groups:
            members = scores[q, torch.from_numpy(group)]
            pooled.append(float((torch.softmax(members.abs(), 0) * members).sum()))
        for a in range(6):
            for b in range(6):
                weight = min(max(float(targets[q, a] - targets[q, b]), 0.0), 10.0)
                total += weight * np.log1p(np.exp(pooled[b] - pooled[a]))
    assert of(scores) == pytest.approx(total / (3 * 36), rel=1e-5)
    same = torch.zeros(3, 10)
    assert of(same) > 0


def test_group_student_learns_what_training_did(bench, tmp_path):
    """Groups with a marked row have lower losses for every query: the marked row comes first."""
    pool, queries = bench.problem.train[1], bench.problem.train[0]

    def read(examples):
        return np.array([[1.0, float(one.id == "tp0"), float(one.id == "tp1")] for one in examples], np.float32)

    student = GroupStudent(read, seed=0)
    student._mean, student._scale = np.zeros(3), np.ones(3)
    torch.manual_seed(0)
    student._maps = [torch.randn(3, 8, requires_grad=True) for _ in range(2)]
    groups = np.array([[0, 2, 3], [4, 5, 6], [0, 7, 8], [1, 9, 10]])
    targets = torch.tensor([[1.0, -0.3, 1.0, -1.7]] * len(queries))
    student._learn([torch.from_numpy(read(side)) for side in (queries, pool)], groups, targets)
    for _ in range(10):
        student._learn([torch.from_numpy(read(side)) for side in (queries, pool)], groups, targets)
    scores = student.score(queries[:1], pool)[0]
    assert scores[0] > scores[2] > scores[1]


def test_shuffled_weights_keep_their_numbers_and_lose_their_ranking(bench, exact):
    shuffled = with_shuffled_weights(bench.model, 0)
    for one, other in zip(bench.model.model.parameters(), shuffled.model.parameters(), strict=True):
        assert torch.equal(one.flatten().sort().values, other.flatten().sort().values)
        assert one.std() == 0 or not torch.equal(one, other)
    scores = METHODS["randomised"].make(bench).score(bench.problem.queries, bench.problem.pool)
    assert spearman_rows(exact, scores).mean() < 0.9


def test_parts_are_charged_to_whoever_uses_them():
    parts = Parts()

    def slow(seconds, *needs):
        def make():
            for name, need in needs:
                parts.get(name, need)
            time.sleep(seconds)
            return seconds

        return make

    features = ("features", slow(0.05))
    _, first = parts.cost_of(slow(0.0, features, ("student", slow(0.02, features))))
    assert 0.07 <= first < 1  # sleeps are longer on a busy machine
    _, again = parts.cost_of(slow(0.0, ("student", slow(9))))
    assert 0.07 <= again < 1
    assert parts.cost_of(slow(0.0))[1] < 0.05
    assert parts.get("features", slow(9)) == 0.05


def test_memory_is_seen_while_it_is_held():
    with memory_taken() as taken:
        block = np.ones(20_000_000)
        time.sleep(0.05)
        del block
        assert taken() > 100


@given(arrays.arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 15)), elements=st.floats(-1, 1)))
def test_hubness_is_a_share(scores):
    assert hubness(np.tile(scores[:1], (len(scores), 1))) <= hubness(scores) <= 1


def test_hubness_and_length_of_known_scores():
    assert hubness(np.tile(np.arange(40.0), (4, 1))) == 10 / 40
    assert hubness(np.kron(np.eye(4), np.ones(10))) == 1
    lengths = np.array([1.0, 2.0, 3.0, 4.0])
    assert length_dependence(np.array([[1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0]]), lengths) == pytest.approx(0)
    assert length_dependence(np.array([[1.0, 2.0, 3.0, 9.0]]), lengths) == pytest.approx(1)


def test_sanity_of_a_world(bench, exact):
    scored = {name: Scored(exact, 0.0, 0) for name in ("gradient-cosine", "randomised")}
    found = sanity_of(scored, bench.problem)
    assert found["randomised_rho"] == pytest.approx(1)
    assert set(found["methods"]) == set(scored)


def some(name, count, prompt="Say it"):
    return [Example(f"{name}{n}", f"{prompt} {name} {n}", f"answer {n}") for n in range(count)]


def test_audit_tells_what_it_checked():
    found = Problem(some("p", 3), some("q", 2), train=Split(some("t", 4), some("u", 5))).audit()
    assert found["examples"] == {"pool": 3, "queries": 2, "train queries": 4, "train pool": 5}
    assert found["checked"][:3] == ["pool / queries", "pool / train queries", "pool / train pool"]
    assert len(found["checked"]) == 6
    assert found["overlap"] == 0


@pytest.mark.parametrize(
    "leak",
    [Example("p1", "another", "text"), Example("x", "SAY it  p 1", "Answer 1")],
    ids=["id", "text"],
)
def test_any_overlap_is_an_error_that_names_one(leak):
    problem = Problem(some("p", 3), some("q", 3), others={"test": [*some("r", 2), leak]})
    with pytest.raises(DataError, match=rf"leak between pool and test.*{leak.id}"):
        problem.audit()


def test_roles_are_checked_apart():
    problem = Problem(some("p", 3), some("p", 3), train=Split(some("t", 2), some("u", 2)))
    with pytest.raises(DataError, match="leak between pool and queries"):
        problem.audit()
    assert problem.audit(["queries", "pool"])["checked"] == ["queries / train queries", "pool / train pool"]
    with pytest.raises(DataError, match="leak between pool and train pool"):
        replace(problem, train=Split(some("t", 2), some("p", 1))).audit(["queries", "pool"])


def test_groups_that_must_be_apart():
    problem = Problem(some("p", 3), some("q", 3), group=lambda example: example.id[1:])
    with pytest.raises(DataError, match=r"leak between pool and queries: 'q0' has the same group as 'p0'"):
        problem.audit()
    sharing = replace(problem, sharing=[("queries", "pool")])
    assert sharing.audit()["overlap"] == 0
    with pytest.raises(DataError, match="leak between pool and test"):
        replace(sharing, others={"test": some("t", 3)}).audit()
