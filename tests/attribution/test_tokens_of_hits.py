"""Tokens of hits and answers: their texts are the completions, their shares the exact scores, whoever shares a row."""

import numpy as np
import pytest

from helpers.sentences import sentences
from helpers.tiny import tiny_decoder
from influcoder.attribution.search import search
from influcoder.attribution.tokens import token_shares
from influcoder.data.examples import Example
from influcoder.errors import ConfigError
from influcoder.indexes.index import Index
from influcoder.student.decoder_tables import static_backbone
from influcoder.student.distill import ClosedFormRecipe, distill_static
from influcoder.student.sample import Sample
from influcoder.teachers.gradient import GradientTeacher
from influcoder.teachers.make import make_teacher
from influcoder.teachers.settings import TeacherSettings


@pytest.fixture(scope="module", params=["layer-cosine", "gradient-dot"])
def teacher(request, tokenizer):
    settings = TeacherSettings.named(request.param, rank=4, width=1024, precision="fp32")
    return GradientTeacher(tiny_decoder("llama", tokenizer), settings)


@pytest.fixture(scope="module")
def index(teacher, tokenizer, tmp_path_factory):
    def sample(seed, n_queries, n_pool):
        queries, pool = sentences(n_queries, seed, f"q{seed}-"), sentences(n_pool, seed + 100, f"p{seed}-")
        return Sample(queries, pool, teacher.features(queries, "query").vectors, teacher.features(pool, "pool").vectors)

    table = teacher.decoder.model.get_input_embeddings().weight.numpy()
    recipe = ClosedFormRecipe(dim=16, product_width=32, channel_width=32)
    encoder = distill_static(
        static_backbone(tokenizer, table), sample(1, 24, 40), sample(2, 8, 12), recipe, provenance=teacher.provenance
    )
    return Index.build(encoder, sentences(30, 9, "row"), tmp_path_factory.mktemp("index"))


@pytest.mark.parametrize("opponents", [False, True])
def test_shares_add_up_to_the_exact_score(index, teacher, opponents):
    queries = sentences(4, 5, "asked")
    found = search(index, queries, k=5, verify=12, teacher=teacher, tokens=True, opponents=opponents)
    plain = search(index, queries, k=5, verify=12, teacher=teacher, opponents=opponents)
    shown = [hit.row for hits in found for hit in hits]
    assert len(set(shown)) < len(shown)  # some are shared by queries
    for query, hits, without in zip(queries, found, plain, strict=True):
        assert [(hit.rank, hit.row, hit.score) for hit in hits] == [(hit.rank, hit.row, hit.score) for hit in without]
        for hit in hits:
            for tokens, text in ((hit.tokens, hit.example.completion), (hit.answer_tokens, query.completion)):
                assert "".join(piece for piece, _ in tokens) == text
                assert sum(share for _, share in tokens) == pytest.approx(hit.exact, rel=1e-4, abs=1e-6)
        assert all(hit.tokens is None and hit.answer_tokens is None for hit in without)


def test_shares_of_a_character_are_added_up(teacher):
    row = [Example("a", "So ", "é漢!")]
    vectors = teacher.features(sentences(2, 3, "q"), "query").vectors
    shares = teacher.token_shares(row, "pool", [vectors])[0]
    for told, each in zip(token_shares(teacher, row, "pool", [vectors])[0], shares, strict=True):
        assert [text for text, _ in told] == ["é", "漢", "!", ""]
        expected = [each[:2].sum(), each[2:5].sum(), each[5], each[6]]
        np.testing.assert_allclose([share for _, share in told], expected, rtol=1e-5)


def test_teacher_without_shares_is_refused_before_any_gradient(index, tokenizer, monkeypatch):
    other = make_teacher(tiny_decoder("llama", tokenizer), TeacherSettings.named("rds+", precision="fp32"))
    monkeypatch.setattr(type(other), "features", lambda *_: pytest.fail("features were computed"))
    with pytest.raises(ConfigError, match="a teacher that has token shares: gradient-cosine"):
        search(index, sentences(1, 5, "asked"), k=3, verify=5, teacher=other, tokens=True)
