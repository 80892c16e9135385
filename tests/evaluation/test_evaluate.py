"""The harness that judges every method."""

import numpy as np
import pytest

from helpers.linear_world import distilled, splits
from helpers.tiny import tiny_decoder
from influcoder.data.examples import Example, normalised
from influcoder.errors import DataError
from influcoder.evaluation.evaluate import count_overlap, evaluate
from influcoder.evaluation.scorers import Bm25, EncoderScorer, ExactQueryScorer, Random, Surface, TeacherScorer, Tfidf
from influcoder.maths.metrics import METRICS, agreement, agreement_with, spearman_rows
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.sample import Sample
from influcoder.teachers.gradient import GradientTeacher
from influcoder.teachers.settings import TeacherSettings


@pytest.fixture(scope="module")
def encoder(tokenizer):
    return distilled(tokenizer)


@pytest.fixture(scope="module")
def test_split(tokenizer):
    return splits(tokenizer)[2]


class Given:
    """A method whose scores are known."""

    name = "given"
    bytes_per_example = 12

    def __init__(self, scores):
        self.scores = scores

    def score(self, queries, pool):
        return self.scores


def some_examples(count, start=0):
    return [Example(f"e{n}", f"Prompt number {n}", f"Answer {n} " * (n % 5 + 1)) for n in range(start, start + count)]


def judge(scores, truth, **options):
    return evaluate([Given(scores)], truth, some_examples(len(truth)), some_examples(truth.shape[1], 50), **options)


def test_contract_of_a_method():
    truth = np.random.default_rng(0).standard_normal((6, 20))
    methods, matrices = judge(truth, truth)
    assert list(methods) == ["given"]
    assert set(methods["given"]) == {*METRICS, "interval_95", "ms_per_example", "bytes_per_example"}
    assert methods["given"]["per_query_spearman"] == pytest.approx(1)
    assert methods["given"]["bytes_per_example"] == 12
    assert methods["given"]["ms_per_example"] >= 0
    np.testing.assert_array_equal(matrices["given"], truth)


def test_numbers_are_those_of_agreement():
    rng = np.random.default_rng(0)
    truth, scores = rng.standard_normal((2, 6, 20))
    lengths = np.array([len(one.completion) for one in some_examples(20, 50)])
    methods, _ = judge(scores, truth, seed=3)
    expected = agreement(truth, scores, lengths, seed=3)
    assert {name: methods["given"][name] for name in expected} == expected


def test_rows_limit_the_queries_that_count():
    truth = np.random.default_rng(0).standard_normal((6, 20))
    scores = truth.copy()
    scores[3:] *= -1
    assert judge(scores, truth, rows=np.arange(3))[0]["given"]["per_query_spearman"] == pytest.approx(1)
    assert judge(scores, truth, rows=np.arange(3, 6))[0]["given"]["per_query_spearman"] == pytest.approx(-1)
    assert judge(scores, truth)[0]["given"]["per_query_spearman"] == pytest.approx(0, abs=1e-9)


def test_bytes_are_read_after_scoring():
    examples = some_examples(8)
    methods, _ = evaluate([Tfidf(), Bm25()], np.eye(8), examples, examples)
    assert all(values["bytes_per_example"] > 0 for values in methods.values())


def test_real_methods_side_by_side(encoder, test_split):
    scorers = [EncoderScorer("influcoder", encoder), Tfidf(), Bm25(), Random()]
    methods, matrices = evaluate(scorers, test_split.influence, test_split.queries, test_split.pool)
    assert list(methods) == list(matrices) == ["influcoder", "tfidf", "bm25", "random"]
    assert methods["influcoder"]["per_query_spearman"] > 0.8
    assert all(abs(methods[name]["per_query_spearman"]) < 0.3 for name in ("tfidf", "bm25", "random"))
    assert methods["influcoder"]["bytes_per_example"] == 2 * encoder.dim


def test_encoder_scorer_multiplies_both_sides(encoder, test_split):
    found = EncoderScorer("x", encoder).score(test_split.queries, test_split.pool)
    expected = encoder.encode_query(test_split.queries) @ encoder.encode_pool(test_split.pool).T
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_surface_fits_on_train_and_scores_new_rows(encoder, tokenizer, test_split):
    train, validation, _ = splits(tokenizer)
    one, same = (Surface(encoder, dim=8).fit(train, validation) for _ in range(2))
    scores = one.score(test_split.queries, test_split.pool)
    assert scores.shape == test_split.influence.shape
    np.testing.assert_allclose(same.score(test_split.queries, test_split.pool), scores, atol=1e-9)


def test_surface_learns_what_lies_on_the_surface(encoder):
    """Influence that is the product of two lengths, mean taken off."""
    rng = np.random.default_rng(0)

    def sample(n_queries, n_pool):
        made = [
            [Example(f"{rng.random()}", "a", "word " * int(rng.integers(1, 40))) for _ in range(n)]
            for n in (n_queries, n_pool)
        ]
        features = [np.array([[np.log(len(one.completion)) - 4, 1.0] for one in side], np.float32) for side in made]
        return Sample(*made, *features)

    surface = Surface(encoder, dim=4).fit(sample(40, 80), sample(15, 30))
    test = sample(10, 50)
    assert spearman_rows(test.influence, surface.score(test.queries, test.pool)).mean() > 0.9


@pytest.fixture(scope="module")
def teachers(tokenizer):
    decoder = tiny_decoder("llama", tokenizer)
    return [GradientTeacher(decoder, TeacherSettings(rank=8, width=4096, seed=s, precision="fp32")) for s in (0, 1)]


def test_teacher_scores_are_its_influences(teachers):
    queries, pool = some_examples(3), some_examples(5, 10)
    scores = TeacherScorer(teachers[0]).score(queries, pool)
    expected = teachers[0].features(queries, "query").vectors @ teachers[0].features(pool, "pool").vectors.T
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert TeacherScorer(teachers[0]).bytes_per_example == 2 * 4096


def test_two_seeds_of_a_teacher_agree(teachers):
    queries, pool = some_examples(6), some_examples(20, 10)
    truth = TeacherScorer(teachers[0]).score(queries, pool)
    methods, _ = evaluate([TeacherScorer(teachers[1])], truth, queries, pool)
    assert methods["exact"]["per_query_spearman"] > 0.5


def test_exact_query_scorer_projects_features(encoder, teachers):
    projector = np.random.default_rng(0).standard_normal((4096, encoder.head.pool_bias.size)).astype(np.float32)
    exact = InfluenceEncoder(encoder.backbone, encoder.head, query_projector=projector, settings=encoder.settings)
    queries, pool = some_examples(3), some_examples(5, 10)
    vectors = exact.project_query(queries, teachers[0].features(queries, "query").vectors)
    found = ExactQueryScorer(exact, teachers[0]).score(queries, pool)
    np.testing.assert_allclose(found, vectors @ exact.encode_pool(pool).T, rtol=1e-4, atol=1e-4)


def test_agreement_with_a_truth_is_the_mean_over_queries():
    rng = np.random.default_rng(0)
    truth, scores = rng.standard_normal((2, 6, 20))
    assert agreement_with(truth)(scores) == pytest.approx(spearman_rows(truth, scores).mean())


def test_disjoint_splits_overlap_in_nothing():
    assert count_overlap(some_examples(3), some_examples(3, 3), some_examples(3, 6)) == 0


def test_repeats_within_a_split_are_its_own_business():
    assert count_overlap([*some_examples(3), *some_examples(3)], some_examples(3, 3)) == 0


@pytest.mark.parametrize(
    "other",
    [
        Example("e1", "Another prompt", "another answer"),
        Example("new", "Prompt number 1", "Answer 1 Answer 1 "),
        Example("new", "  prompt   NUMBER 1\n", "\tanswer 1 ANSWER 1"),
    ],
    ids=["id", "text", "case and spacing"],
)
@pytest.mark.parametrize("place", [1, 2])
def test_overlap_is_refused_and_named(other, place):
    splits = [some_examples(3), some_examples(3, 3), some_examples(3, 6)]
    splits[place].append(other)
    with pytest.raises(DataError, match=rf"'{other.id}' has the same (id|text) as 'e1' of another split"):
        count_overlap(*splits)


def test_overlap_of_groups_is_refused():
    with pytest.raises(DataError, match="'e3' has the same group as 'e2' of another split"):
        count_overlap(some_examples(3), some_examples(3, 3), group=lambda example: str(int(example.id[1:]) // 4))


def test_prompt_and_completion_are_told_apart():
    assert normalised(Example("", "a b", "c")) != normalised(Example("", "a", "b c"))
    assert normalised(Example("x", "A\nb", " c")) == normalised(Example("y", "a b", "C"))
