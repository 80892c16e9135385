"""Token ids and loss: special tokens once, no token beyond the table, the words of the row in the tokens with loss."""

import logging

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from helpers.chat_templates import chat_tokenizer_of
from helpers.tiny import SENTENCES, tiny_decoder, tiny_model, tiny_tokenizer
from influcoder.data.examples import Example, example_from_row, examples_from_row
from influcoder.data.messages import RowError
from influcoder.data.reading import read_examples
from influcoder.errors import DataError
from influcoder.model.batches import Tokens, make_batches
from influcoder.model.decoder import Decoder
from influcoder.model.finetune import completion_losses
from influcoder.model.tokenise import Tokeniser

USER, ASSISTANT = {"role": "user", "content": "Two plus two?"}, {"role": "assistant", "content": "Four it is."}


def reader_of(tokenizer, *, rows=400, max_length=4096):
    return Tokeniser(tokenizer, name="tiny", rows=rows, max_length=max_length)


def halves(reader, example):
    (tokens,) = reader.tokens([example])
    return [reader.tokenizer.decode(part) for part in (tokens.ids[: tokens.start], tokens.ids[tokens.start :])]


# Special tokens


@pytest.mark.parametrize("kind", ["llama", "gemma"])
@pytest.mark.parametrize("row", [{"text": "Two"}, {"prompt": "Two\n", "completion": "four"}], ids=str)
def test_a_text_that_begins_with_the_start_token_begins_with_one(kind, row):
    reader = reader_of(chat_tokenizer_of(kind))
    start = reader.tokenizer.bos_token
    first = next(iter(row))
    (plain,), (marked,) = (reader.tokens([example_from_row(one)]) for one in (row, row | {first: start + row[first]}))
    assert plain.ids.tolist() == marked.ids.tolist()
    assert plain.start == marked.start
    assert plain.ids.tolist().count(reader.tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("kind", ["qwen", "llama", "gemma"])
@pytest.mark.parametrize("tail", ["", "\n"])
def test_a_text_that_ends_with_the_end_token_ends_with_one(kind, tail):
    reader = reader_of(chat_tokenizer_of(kind))
    end = reader.tokenizer.eos_token
    assert halves(reader, Example("a", "Two\n", f"four{end}{tail}"))[1] == f"four{end}{tail}"


def test_an_end_token_of_the_text_and_one_of_the_tokenizer():
    tokenizer = chat_tokenizer_of("qwen")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <|im_end|>", special_tokens=[("<|im_end|>", tokenizer.eos_token_id)]
    )
    for completion in ("four", "four<|im_end|>"):
        assert halves(reader_of(tokenizer), Example("a", "Two\n", completion)) == ["Two\n", "four<|im_end|>"]


def test_a_chat_has_the_special_tokens_of_its_template_alone():
    reader = reader_of(chat_tokenizer_of("gemma"))
    asked, answered = halves(reader, example_from_row({"messages": [USER, ASSISTANT]}))
    assert asked == "<bos><start_of_turn>user\nTwo plus two?<end_of_turn>\n<start_of_turn>model\n"
    assert answered == "Four it is.<end_of_turn>\n"


# B10: a tokenizer that is longer than the table


def longer(more=1):
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([f"<more{number}>" for number in range(more)])
    return Decoder(tiny_model("llama"), tokenizer, name="tiny", max_length=96), tokenizer


@pytest.mark.parametrize("more", [1, 9])
def test_a_longer_tokenizer_is_no_matter_until_a_row_uses_its_last_tokens(more):
    decoder, _ = longer(more)
    good, bad = Example("good", "Two ", "four"), Example("bad", "Two <more0> ", "four")
    assert decoder.tokenise([good])[0].targets
    with pytest.raises(DataError, match=r"example 'bad': it holds token '<more0>' of id 320, .* embedding of 320 rows"):
        decoder.tokenise([good, bad])
    with pytest.raises(DataError, match="token '<more0>'"):
        decoder.answer(bad)
    found = read_examples(
        [{"text": "<more0>"}] + [{"text": "fine"}] * 9, prepare=decoder.prepare, on_error="skip", max_reject_rate=0.5
    )
    assert len(found) == 9


# Rows of token ids


def test_token_ids_are_read_as_they_are_and_get_their_texts():
    reader = reader_of(tiny_tokenizer())
    ids = reader.tokenizer("Hello world, four")["input_ids"]
    labels = [-100] * 4 + ids[4:]
    example = example_from_row({"input_ids": ids, "labels": labels})
    (tokens,) = reader.tokens([example])
    assert tokens.ids.tolist() == ids
    assert tokens.places.tolist() == list(range(4, len(ids)))
    ready = reader.prepared(example)
    assert (ready.prompt, ready.completion) == (reader.tokenizer.decode(ids[:4]), reader.tokenizer.decode(ids[4:]))
    assert reader.prepared(ready) == ready
    assert reader.prompt(ready) == ids[:4]


def test_token_ids_beyond_the_table_and_of_no_text():
    reader = reader_of(tiny_tokenizer(), rows=320)
    with pytest.raises(RowError, match="a token of id 999"):
        reader.prepared(example_from_row({"input_ids": [5, 999]}))
    spaces = reader.tokenizer("   ")["input_ids"]
    with pytest.raises(RowError, match="tokens with loss are no text"):
        reader.prepared(example_from_row({"input_ids": [5, *spaces], "labels": [-100, *spaces]}))


def test_answers_to_token_ids_and_to_a_chat_of_which_all_carries_loss():
    decoder = tiny_decoder("llama", tiny_tokenizer(chat=True))
    rows = [{"input_ids": [5, 6, 7], "labels": [-100, -100, 7]}, {"messages": [USER, ASSISTANT], "train_on": ["user"]}]
    for row in rows:
        assert isinstance(decoder.answer(example_from_row(row), max_new_tokens=2), str)


# The words of the row are in the tokens with loss


def words_tokenizer(normalizer=None, unknown="[UNK]"):
    inner = Tokenizer(models.WordLevel(unk_token=unknown))
    inner.normalizer = normalizer
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    texts = [inner.normalizer.normalize_str(one) if normalizer else one for one in SENTENCES]
    inner.train_from_iterator(texts, trainers.WordLevelTrainer(special_tokens=[unknown, "[END]"]))
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="[END]", unk_token=unknown)


def test_a_tokenizer_that_changes_case_and_accents_is_right():
    reader = reader_of(words_tokenizer(normalizers.BertNormalizer(lowercase=True)))
    assert halves(reader, Example("a", "HELLO ", "Wörld  FRANCE"))[1] == "world france [END]"


def test_a_completion_of_which_the_tokenizer_knows_a_part_is_read():
    assert halves(reader_of(words_tokenizer()), Example("a", "Hello ", "zzz world"))[1] == "[UNK] world [END]"


def test_a_completion_of_which_the_tokenizer_knows_nothing_is_refused():
    with pytest.raises(RowError, match=r"the tokens with loss read ' \[UNK\] \[UNK\] \[END\]', expected 'zzz qqq'"):
        reader_of(words_tokenizer()).tokens([Example("a", "Hello ", "zzz qqq")])


@given(st.text(max_size=12), st.text(min_size=1, max_size=12).filter(str.strip))
def test_no_text_is_refused(prompt, completion):
    for tokenizer in (BYTES, COMPOSED):
        reader_of(tokenizer).tokens([Example("a", prompt, completion)])


BYTES = tiny_tokenizer()
COMPOSED = tiny_tokenizer()
COMPOSED.backend_tokenizer.normalizer = normalizers.NFC()


# Weights


def test_tokens_with_weights_carry_the_loss_by_shares():
    tokens = Tokens(np.arange(6), 1, weights=np.array([0, 1, 0, 0.5, 0.5, 0], np.float32))
    assert tokens.places.tolist() == [1, 3, 4]
    assert tokens.shares.tolist() == [0.5, 0.25, 0.25]
    assert tokens.targets == 3
    (batch,) = make_batches([tokens], 100, torch.device("cpu"))
    assert (batch.columns.tolist(), batch.targets.tolist()) == ([0, 2, 3], [1, 3, 4])
    assert batch.weights.tolist() == [0.5, 0.25, 0.25]


def test_a_first_token_with_loss_is_not_predicted():
    tokens = Tokens(np.arange(3), 0, weights=np.array([1, 1, 3], np.float32))
    assert (tokens.places.tolist(), tokens.shares.tolist()) == ([1, 2], [0.25, 0.75])


def test_shortened_tokens_keep_their_weights():
    short = Tokens(np.arange(100), 40, weights=np.arange(100, dtype=np.float32)).shortened(10)
    assert short.weights.tolist() == short.ids.tolist()


@pytest.mark.parametrize("max_length", range(2, 40, 3))
def test_cut_chats_keep_their_first_token_with_loss(max_length):
    row = {"messages": [USER, ASSISTANT, USER, ASSISTANT | {"weight": 0.5}]}
    whole, cut = (
        reader_of(chat_tokenizer_of("llama", marked=True), max_length=length).tokens(examples_from_row(row))[0]
        for length in (4096, max_length)
    )
    assert len(cut.ids) == max_length
    assert cut.ids[cut.places[0]] == whole.ids[whole.places[0]]
    assert cut.prompt_cut
    assert cut.completion_cut


def test_the_loss_of_a_chat_is_the_weighted_mean_of_its_turns():
    decoder = tiny_decoder("llama", tiny_tokenizer(chat=True), max_length=128)
    turns = [USER, ASSISTANT, {"role": "user", "content": "More"}, {"role": "assistant", "content": "Six"}]
    rows = [{"messages": turns, "train_on": weights} for weights in ([0, 1, 0, 0], [0, 0, 0, 1], [0, 1, 0, 3])]
    tokens = decoder.tokenise([example_from_row(row) for row in rows])
    batches = [next(iter(make_batches([one], 1000, decoder.device))) for one in tokens]
    first, last, both = (float(completion_losses(decoder.model, batch)[0]) for batch in batches)
    counts = tokens[0].targets, 3 * tokens[1].targets
    assert both == pytest.approx((counts[0] * first + counts[1] * last) / sum(counts), rel=1e-5)


def test_moved_boundaries_are_told_once(caplog):
    reader = reader_of(tiny_tokenizer())
    with caplog.at_level(logging.WARNING, logger="influcoder"):
        for _ in range(2):
            reader.tokens([Example("a", "the capi", "tal of France")])
    assert len(caplog.records) == 1


def test_loss_that_ends_within_a_character_is_no_other_text():
    tokenizer = chat_tokenizer_of("llama")
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}\n{% if loop.last %} {% endif %}{{ m.content }}\n{% endfor %}"
    )
    messages = [{"role": "user", "content": "0"}, {"role": "assistant", "content": "¡"}]
    (example,) = examples_from_row({"messages": messages})
    (tokens,) = Tokeniser(tokenizer, name="tiny", rows=len(tokenizer), max_length=99).tokens([example])
    assert tokens.targets


def test_padding_without_a_mask_is_refused():
    tokenizer = chat_tokenizer_of("qwen")
    reader = Tokeniser(tokenizer, name="tiny", rows=400, max_length=64)
    pad = tokenizer.pad_token_id
    row = {"input_ids": [60, 70, 80, pad, pad]}
    with pytest.raises(RowError, match=r"it ends in padding, tokens '<\|endoftext\|>'"):
        reader.tokens(examples_from_row(row))
    (tokens,) = reader.tokens(examples_from_row(row | {"labels": [60, 70, 80, -100, -100]}))
    assert tokens.targets == 2
    assert len(reader.tokens(examples_from_row({"input_ids": [60, 70, pad]}))[0].ids) == 3
