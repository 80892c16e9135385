"""The text of tokens: pieces that add up to the completion, whatever the tokenizer makes of it."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, trainers
from transformers import PreTrainedTokenizerFast

from helpers.tiny import END, SENTENCES, tiny_decoder, tiny_model, tiny_tokenizer
from influcoder.data.examples import Example
from influcoder.model.batches import Tokens
from influcoder.model.decoder import Decoder
from influcoder.model.pieces import pieces


def like_llama_2():
    """A decoder whose tokenizer marks spaces, and cuts characters that it does not know into bytes."""
    inner = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<unk>", END], show_progress=False)
    inner.train_from_iterator([word for text in SENTENCES for word in text.split()], trainer)
    told = json.loads(inner.to_str())
    told["model"]["vocab"] |= {f"<0x{byte:02X}>": len(told["model"]["vocab"]) + byte for byte in range(256)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(told)), eos_token=END, unk_token="<unk>"
    )
    return Decoder(tiny_model("llama", vocabulary=len(tokenizer)), tokenizer, name="tiny", max_length=96)


PLAIN = tiny_decoder("llama", tiny_tokenizer())
CHAT = tiny_decoder("llama", tiny_tokenizer(chat=True))
BYTES = like_llama_2()


def read(decoder, example, completion=None):
    (tokens,) = decoder.tokenise([example])
    found = pieces(decoder.tokenizer, tokens, example.completion if completion is None else completion)
    numbers = [number for _, each in found for number in each]
    assert sorted(numbers) == list(range(tokens.targets))
    return found


@pytest.mark.parametrize("decoder", [PLAIN, CHAT, BYTES], ids=["raw", "chat", "bytes"])
@settings(max_examples=50)
@given(completion=st.text(min_size=1, max_size=12).filter(str.strip), prompt=st.text(max_size=5))
def test_pieces_add_up_to_the_completion(decoder, completion, prompt):
    found = read(decoder, Example.question(prompt, completion))
    assert "".join(text for text, _ in found) in (completion, completion.strip())
    assert all(text for text, _ in found[:-1])


def test_a_token_is_a_piece_and_the_end_has_no_text():
    found = read(PLAIN, Example("a", "The capital of France is", " Paris"))
    assert found[0][0].startswith(" ")
    assert len(found) > 2
    assert found[-1] == ("", [len(found) - 1])


@pytest.mark.parametrize("decoder", [PLAIN, BYTES], ids=["raw", "bytes"])
def test_parts_of_a_character_are_one_piece(decoder):
    found = read(decoder, Example("a", "So ", "é漢!"))
    assert [text for text, _ in found] == ["é", "漢", "!", ""]
    assert [len(numbers) for _, numbers in found] == [2, 3, 1, 1]


def test_loss_that_begins_within_a_character():
    ids = np.array(PLAIN.tokenizer("a漢b")["input_ids"])
    found = pieces(PLAIN.tokenizer, Tokens(ids, start=2), "漢b")
    assert [text for text, _ in found] == ["漢", "b"]


def test_first_token_of_a_text_without_a_prompt_carries_no_loss():
    found = read(PLAIN, Example("a", "", "two"))
    assert "".join(text for text, _ in found) == "two"
    assert found[0][1] == []


def test_what_precedes_the_completion_goes_with_its_first_piece():
    assert read(PLAIN, Example("a", "So", " b"), "b") == [("b", [0, 1]), ("", [2])]


def test_a_completion_that_the_loss_is_not_on_alone_is_read_as_it_stands():
    found = read(PLAIN, Example("a", "So", " two"), "something else")
    assert "".join(text for text, _ in found) == " two<eos>"


def test_a_completion_like_the_name_of_the_end_token():
    assert [text for text, _ in read(PLAIN, Example("a", "So ", "o"))] == ["o", ""]


def test_loss_with_gaps():
    ids = np.array(PLAIN.tokenizer("漢漢")["input_ids"])
    weights = np.array([0, 1, 0, 0, 1, 1], np.float32)
    found = pieces(PLAIN.tokenizer, Tokens(ids, start=1, weights=weights), "漢漢")
    assert [numbers for _, numbers in found] == [[0], [1, 2]]
