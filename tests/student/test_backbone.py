"""Fast sentence embeddings against Sentence Transformers' own, on tiny BERT and ModernBERT (Ettin's) backbones."""

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding, Transformer
from transformers import BertConfig, BertModel, ModernBertConfig, ModernBertModel

from influcoder.data.examples import Example
from influcoder.student.backbone import TOKENS_AT_ONCE, Embedder, embed, sentence_transformer
from influcoder.student.encoder import InfluenceEncoder

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}


@pytest.fixture(scope="module", params=["bert", "modernbert"])
def folder(request, tokenizer, tmp_path_factory):
    """A Sentence Transformers folder with random weights."""
    torch.manual_seed(0)
    shared = SIZES | {"vocab_size": len(tokenizer), "max_position_embeddings": 128}
    tokens = {"pad_token_id": 0, "cls_token_id": 0, "sep_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    if request.param == "bert":
        model = BertModel(BertConfig(**shared))
    else:
        model = ModernBertModel(ModernBertConfig(**shared, **tokens))
    place = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(place / "plain")
    padded = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<eos>", pad_token="<eos>")
    padded.save_pretrained(place / "plain")
    transformer = Transformer(str(place / "plain"), max_seq_length=64)
    pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode="mean")
    SentenceTransformer(modules=[transformer, pooling], device="cpu").save(str(place / "st"))
    return place / "st"


@pytest.fixture(scope="module")
def backbone(folder):
    return sentence_transformer(folder)


TEXTS = ["Paris is the capital", "hello", "Rome " * 40, "two plus two", "hello world, the seven"]


@pytest.fixture
def static(tokenizer):
    torch.manual_seed(0)
    module = StaticEmbedding(tokenizer.backend_tokenizer, embedding_dim=16)
    return SentenceTransformer(modules=[module], device="cpu")


@pytest.fixture(params=["transformer", "static"])
def changed(request, folder):
    """A backbone that a test may change."""
    return sentence_transformer(folder) if request.param == "transformer" else request.getfixturevalue("static")


def test_float32_is_encode(backbone):
    expected = backbone.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(Embedder(backbone, precision="fp32")(TEXTS), expected, atol=2e-6)


def test_bfloat16_is_close_and_of_unit_length(backbone):
    expected = backbone.encode(TEXTS, normalize_embeddings=True)
    found = Embedder(backbone, precision="bf16")(TEXTS)
    assert (found * expected).sum(axis=1).min() > 0.99
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_backbone_stays_as_it_was(backbone):
    Embedder(backbone, precision="bf16")(TEXTS)
    assert {one.dtype for one in backbone.parameters()} == {torch.float32}


def test_rows_follow_the_input_through_several_batches(backbone):
    texts = [f"{'Rome ' * (n % 50)} hello" for n in range(3 * TOKENS_AT_ONCE // 50)]
    embed = Embedder(backbone, precision="fp32")
    np.testing.assert_allclose(embed(texts[::-1])[::-1], embed(texts), atol=1e-5)
    np.testing.assert_allclose(embed(texts[7:8])[0], embed(texts)[7], atol=1e-5)


def test_nothing_to_embed(changed):
    width = changed.get_embedding_dimension()
    for found in (Embedder(changed)([]), embed(changed, [])):
        assert (found.shape, found.dtype) == ((0, width), np.float32)


def test_one_call_is_encode(changed):
    found = embed(changed, tuple(TEXTS), precision="fp32")
    np.testing.assert_allclose(found, changed.encode(TEXTS, normalize_embeddings=True), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert found.dtype == np.float32


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_width_that_the_backbone_is_cut_to(changed, precision):
    changed.truncate_dim = 8
    expected = changed.encode(TEXTS, normalize_embeddings=True)
    found = embed(changed, TEXTS, precision=precision)
    assert found.shape == expected.shape == (len(TEXTS), 8)
    assert (found * expected).sum(axis=1).min() > 0.99
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert embed(changed, []).shape == (0, 8)


def test_default_prompt_is_put_before_texts_by_one_call_only(changed):
    plain = changed.encode(TEXTS, normalize_embeddings=True)
    changed.prompts, changed.default_prompt_name = {"about": "Rome is four. "}, "about"
    prompted = changed.encode(TEXTS, normalize_embeddings=True)
    assert np.abs(prompted - plain).max() > 0.01
    np.testing.assert_allclose(embed(changed, TEXTS, precision="fp32"), prompted, atol=1e-5)
    np.testing.assert_allclose(Embedder(changed, precision="fp32")(TEXTS), plain, atol=1e-5)


def test_text_without_tokens(backbone):
    texts = [*TEXTS, "", ""]
    expected = backbone.encode(texts, normalize_embeddings=True)
    np.testing.assert_allclose(Embedder(backbone, precision="fp32")(texts), expected, atol=1e-5)


def test_batches_hold_alike_lengths_within_the_budget(backbone, monkeypatch):
    shapes = []
    preprocess = backbone.preprocess

    def watched(texts, **settings):
        features = preprocess(texts, **settings)
        shapes.append(tuple(features["input_ids"].shape))
        return features

    monkeypatch.setattr(backbone, "preprocess", watched)
    embed(backbone, [f"{'Rome ' * (n % 50)}hello" for n in range(100)], precision="fp32")
    assert sum(rows for rows, _ in shapes) == 100
    assert max(rows * width for rows, width in shapes) <= TOKENS_AT_ONCE
    assert [width for _, width in shapes] == sorted((width for _, width in shapes), reverse=True)


def test_backbone_folder_is_an_encoder_offline(folder, monkeypatch):
    """As a hub id of Ettin would be: no network, no code of the folder's own."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    encoder = InfluenceEncoder(sentence_transformer(str(folder)), None)
    made = [Example("a", "Who?", "Paris"), Example("b", "Where?", "Rome")]
    assert encoder.tier == "transformer"
    np.testing.assert_array_equal(encoder.encode_pool(made), encoder.encode_pool(made))
    assert encoder.encode_query(made).shape == (2, 32)
