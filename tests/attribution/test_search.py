"""Search and its verification by the exact teacher."""

import numpy as np
import pytest

from helpers.sentences import sentences
from helpers.tiny import tiny_decoder
from influcoder.attribution.hits import Hit
from influcoder.attribution.recheck import Recheck
from influcoder.attribution.rechecked import Rechecked
from influcoder.attribution.search import search, search_both_sides
from influcoder.data.examples import Example
from influcoder.errors import ConfigError, ModelError
from influcoder.indexes.index import Index
from influcoder.student.decoder_tables import static_backbone
from influcoder.student.distill import ClosedFormRecipe, distill_static
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.sample import Sample
from influcoder.teachers.gradient import GradientTeacher
from influcoder.teachers.settings import TeacherSettings

SETTINGS = TeacherSettings(rank=4, width=1024, precision="fp32")


@pytest.fixture(scope="module")
def teacher(tokenizer):
    return GradientTeacher(tiny_decoder("llama", tokenizer), SETTINGS)


def sample(teacher, seed, n_queries, n_pool):
    queries, pool = sentences(n_queries, seed, f"q{seed}-"), sentences(n_pool, seed + 100, f"p{seed}-")
    return Sample(queries, pool, teacher.features(queries, "query").vectors, teacher.features(pool, "pool").vectors)


@pytest.fixture(scope="module")
def encoder(teacher, tokenizer):
    table = teacher.decoder.model.get_input_embeddings().weight.numpy()
    recipe = ClosedFormRecipe(dim=16, product_width=32, channel_width=32)
    splits = sample(teacher, 1, 24, 40), sample(teacher, 2, 8, 12)
    return distill_static(static_backbone(tokenizer, table), *splits, recipe, provenance=teacher.provenance)


@pytest.fixture(scope="module")
def pool():
    return sentences(30, 9, "row")


@pytest.fixture(scope="module")
def index(encoder, pool, tmp_path_factory):
    return Index.build(encoder, pool, tmp_path_factory.mktemp("index"))


@pytest.fixture(scope="module")
def queries():
    return sentences(4, 5, "asked")


@pytest.fixture(scope="module")
def exact(teacher, queries, pool):
    return teacher.features(queries, "query").vectors @ teacher.features(pool, "pool").vectors.T


def untouched_teacher(monkeypatch):
    monkeypatch.setattr(GradientTeacher, "features", lambda *_: pytest.fail("a gradient was computed"))


def rows_of(hits):
    return [[hit.row for hit in each] for each in hits]


@pytest.mark.parametrize(
    "recheck", [{}, {"verify": 6}, {"verify": 6, "certify": 9}, {"verify": 6, "certify": 9, "tokens": True}]
)
def test_both_sides_are_those_of_two_searches(index, teacher, queries, recheck):
    both = search_both_sides(index, queries, k=4, recheck=Recheck(**recheck), teacher=teacher)
    for hits, opponents in zip(both, (False, True), strict=True):
        alone = search(index, queries, k=4, opponents=opponents, teacher=teacher, **recheck)
        assert rows_of(hits) == rows_of(alone)
        for mine, other in zip(hits, alone, strict=True):
            assert (mine.query, mine.trust) == (other.query, other.trust)
            assert (mine.certified is None) == ("certify" not in recheck)
            for hit, same in zip(mine, other, strict=True):
                assert hit.exact == pytest.approx(same.exact, abs=1e-5)
                for name in ("tokens", "answer_tokens"):
                    here, there = getattr(hit, name), getattr(same, name)
                    assert (here is None) == (there is None) == ("tokens" not in recheck)
                    shares = [[share for _, share in one or ()] for one in (here, there)]
                    assert shares[0] == pytest.approx(shares[1], abs=1e-5)
            if mine.certified is not None:
                assert (mine.certified.sampled, mine.certified.above) == (
                    other.certified.sampled,
                    other.certified.above,
                )


@pytest.mark.parametrize("opponents", [False, True])
def test_without_a_teacher_hits_are_the_encoders(index, encoder, queries, pool, opponents):
    found = search(index, queries, k=6, opponents=opponents)
    expected = index.search(encoder.encode_query(queries), 6, opponents=opponents)
    assert rows_of(found) == expected.rows.tolist()
    for each, scores in zip(found, expected.scores, strict=True):
        assert [hit.rank for hit in each] == [1, 2, 3, 4, 5, 6]
        assert [hit.score for hit in each] == pytest.approx(scores.tolist())
        assert all(hit.exact is None and hit.example == pool[hit.row] for hit in each)


def test_with_a_teacher_queries_are_their_real_gradients(index, encoder, teacher, queries):
    found = search(index, queries, k=6, teacher=teacher)
    vectors = encoder.project_query(queries, teacher.features(queries, "query").vectors)
    assert rows_of(found) == index.search(vectors, 6).rows.tolist()
    assert all(hit.exact is None for each in found for hit in each)


@pytest.mark.parametrize("opponents", [False, True])
def test_verified_hits_are_ranked_by_the_teacher(index, encoder, teacher, queries, exact, opponents):
    found = search(index, queries, k=5, verify=12, teacher=teacher, opponents=opponents)
    first_pass = search(index, queries, k=12, teacher=teacher, opponents=opponents)
    for each, candidates, truth in zip(found, first_pass, exact, strict=True):
        assert [hit.exact for hit in each] == pytest.approx([truth[hit.row] for hit in each], abs=1e-5)
        best = sorted((truth[hit.row] for hit in candidates), reverse=not opponents)[:5]
        assert [hit.exact for hit in each] == pytest.approx(best, abs=1e-5)
        assert [hit.rank for hit in each] == [1, 2, 3, 4, 5]
        assert {hit.row: hit.score for hit in each}.items() <= {hit.row: hit.score for hit in candidates}.items()


def test_verifying_the_whole_pool_is_the_teachers_own_ranking(index, encoder, teacher, queries, exact):
    found = search(index, queries, k=30, verify=30, teacher=teacher)
    for each, truth in zip(found, exact, strict=True):
        assert [hit.exact for hit in each] == pytest.approx(sorted(truth, reverse=True), abs=1e-5)


def test_verified_scores_are_inner_products(index, teacher, queries, exact):
    rows = np.array([[3, 1], [3, 29], [0, 0], [7, 3]])
    features = teacher.features(queries, "query").vectors
    rechecked = Rechecked.of(index, teacher, rows)
    found = [rechecked.scores(query, some) for query, some in zip(features, rows, strict=True)]
    np.testing.assert_allclose(found, np.take_along_axis(exact, rows, axis=1), atol=1e-5)


def test_shared_candidates_cost_one_gradient(index, teacher, monkeypatch):
    asked = []
    whole = GradientTeacher.features
    monkeypatch.setattr(
        GradientTeacher, "features", lambda self, rows, role: asked.append(len(rows)) or whole(self, rows, role)
    )
    Rechecked.of(index, teacher, np.array([[3, 1], [3, 1], [1, 3], [3, 5]]))
    assert asked == [3]


def test_verification_needs_the_teacher(index, encoder, queries):
    with pytest.raises(ConfigError, match="give --decoder"):
        search(index, queries, verify=20)


@pytest.mark.parametrize("verify", [1, 9, -3])
def test_fewer_candidates_than_hits_cost_no_gradient(index, teacher, queries, verify, monkeypatch):
    untouched_teacher(monkeypatch)
    with pytest.raises(ConfigError, match=f"verify is {verify}, expected at least k = 10"):
        search(index, queries, k=10, verify=verify, teacher=teacher)


@pytest.mark.parametrize("verify", [0, 100])
def test_more_hits_than_rows(index, encoder, teacher, queries, verify):
    found = search(index, queries, k=50, verify=verify, teacher=teacher)
    assert [sorted(rows) for rows in rows_of(found)] == [list(range(30))] * 4


def test_encoder_without_projector_is_verified_from_text(teacher, encoder, pool, queries, exact, tmp_path):
    """As the paper's recipe makes them."""
    bare = InfluenceEncoder(encoder.backbone, encoder.head, settings=encoder.settings)
    index = Index.build(bare, pool, tmp_path / "index")
    found = search(index, queries, k=5, verify=12, teacher=teacher)
    first_pass = index.search(bare.encode_query(queries), 12)
    for each, candidates, truth in zip(found, first_pass.rows, exact, strict=True):
        best = sorted(truth[candidates], reverse=True)[:5]
        assert [hit.exact for hit in each] == pytest.approx(best, abs=1e-5)


def test_teacher_of_another_width_is_refused(index, encoder, teacher, queries):
    other = GradientTeacher(teacher.decoder, TeacherSettings(rank=4, width=64, precision="fp32"))
    with pytest.raises(ModelError, match="another teacher"):
        search(index, queries, teacher=other)


def test_hits_say_how_far_to_trust_them(index, encoder, teacher, queries):
    from_text, exact = search(index, queries), search(index, queries, teacher=teacher)
    expected = encoder.trust["text"].expect(encoder.encode_query(queries))
    np.testing.assert_allclose([hits.trust for hits in from_text], expected, atol=1e-6)
    assert [hits.trust for hits in exact] != [hits.trust for hits in from_text]
    assert all(low <= middle <= high for middle, low, high in (hits.trust for hits in exact))


def test_hits_are_values():
    example = Example("a", "b", "c")
    assert Hit(1, 0, 0.5, None, example) == Hit(1, 0, 0.5, None, example)
