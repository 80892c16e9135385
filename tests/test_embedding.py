"""Fast sentence embeddings against Sentence Transformers' own, on tiny BERT and ModernBERT (Ettin's) backbones."""

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import BertConfig, BertModel, ModernBertConfig, ModernBertModel

from influcoder.embedding import TOKENS_AT_ONCE, Embedder
from influcoder.encoder import InfluenceEncoder, sentence_transformer
from influcoder.examples import Example

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


def test_nothing_to_embed(backbone):
    assert len(Embedder(backbone)([])) == 0


def test_backbone_folder_is_an_encoder_offline(folder, monkeypatch):
    """As a hub id of Ettin would be: no network, no code of the folder's own."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    encoder = InfluenceEncoder(sentence_transformer(str(folder)), None)
    made = [Example("a", "Who?", "Paris"), Example("b", "Where?", "Rome")]
    assert encoder.tier == "transformer"
    np.testing.assert_array_equal(encoder.encode_pool(made), encoder.encode_pool(made))
    assert encoder.encode_query(made).shape == (2, 32)
