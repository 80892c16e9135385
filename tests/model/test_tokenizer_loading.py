"""What an adapter was trained with wins, and says so; a tokenizer that is not the model's is told or refused."""

import json
import logging
import shutil
from dataclasses import replace

import pytest
from transformers import LlamaTokenizer

from helpers.tiny import CHAT_TEMPLATE, END, save_adapter, save_decoder, tiny_model, tiny_tokenizer
from influcoder.data.examples import Example
from influcoder.errors import DataError, ModelError
from influcoder.model.decoder import Decoder
from influcoder.model.tokenizer_loading import differences, tokenizer_hash

CHAT = [Example("a", "Hello", "world", (("user", "Hello"),))]
OTHER_TEMPLATE = CHAT_TEMPLATE.replace("<assistant>", "<model>")


@pytest.fixture
def base(tmp_path):
    return save_decoder(tmp_path / "base", tiny_tokenizer())


@pytest.fixture
def adapter(tmp_path):
    return save_adapter(tmp_path / "adapter", "llama", r=2, target_modules=["q_proj"])


def load(base, adapter=None):
    return Decoder.load(base, adapter=adapter, device="cpu")


def read(decoder):
    (tokens,) = decoder.tokenise(CHAT)
    return decoder.tokenizer.decode(tokens.ids)


def test_adapters_own_chat_template_wins_and_says_so(base, adapter, caplog):
    plain = load(base, adapter)
    tiny_tokenizer(chat=True).save_pretrained(adapter)
    with caplog.at_level(logging.WARNING, logger="influcoder"):
        own = load(base, adapter)
    assert read(own).startswith("<user>Hello") != read(plain).startswith("<user>Hello")
    assert "its own tokenizer is used" in caplog.text
    assert "a chat template, which the base has not got" in caplog.text
    assert own.fingerprint.tokenizer != plain.fingerprint.tokenizer
    assert own.fingerprint.decoder == plain.fingerprint.decoder
    assert own.fingerprint.tokenizer_differs == "a chat template, which the base has not got"
    assert plain.fingerprint.tokenizer_differs is None


def test_same_tokenizer_says_nothing(base, adapter, caplog):
    tokenizer = tiny_tokenizer()
    tokenizer(["a", "a long text"], padding=True, truncation=True, max_length=3) if tokenizer.pad_token else None
    tokenizer.pad_token = END  # as trainers do
    tokenizer(["a", "a long text"], padding=True, truncation=True, max_length=3)
    tokenizer.save_pretrained(adapter)
    assert json.loads((adapter / "tokenizer.json").read_text())["padding"] is not None
    with caplog.at_level(logging.WARNING, logger="influcoder"):
        own = load(base, adapter)
    assert caplog.text == ""
    assert replace(own.fingerprint, decoder="") == replace(load(base).fingerprint, decoder="")


def test_chat_template_alone_is_taken(base, adapter):
    (adapter / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    assert read(load(base, adapter)).startswith("<user>Hello")


def test_adapter_without_a_template_is_read_without_one(tmp_path, adapter, caplog):
    base = save_decoder(tmp_path / "chat", tiny_tokenizer(chat=True))
    tiny_tokenizer().save_pretrained(adapter)
    with caplog.at_level(logging.WARNING, logger="influcoder"):
        own = load(base, adapter)
    assert not own.tokenizer.chat_template
    assert "no chat template" in caplog.text


def test_adapters_tokenizer_serves_a_base_without_one(tmp_path, adapter):
    tiny_model("llama").save_pretrained(tmp_path / "bare")
    with pytest.raises(ModelError):
        load(tmp_path / "bare", adapter)
    tiny_tokenizer(chat=True).save_pretrained(adapter)
    assert load(tmp_path / "bare", adapter).fingerprint.tokenizer_differs is None


@pytest.mark.parametrize("lost", ["tokenizer.json", "half of it"])
def test_damaged_tokenizer_of_the_adapter_is_not_replaced_by_the_bases(base, adapter, lost):
    tiny_tokenizer(chat=True).save_pretrained(adapter)
    file = adapter / "tokenizer.json"
    data = file.read_bytes()
    file.unlink() if lost == "tokenizer.json" else file.write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match=r"adapter: holds a tokenizer that does not load"):
        load(base, adapter)


def test_differences_are_told_in_words():
    base, own = tiny_tokenizer(), tiny_tokenizer(chat=True)
    assert differences(base, tiny_tokenizer()) == []
    own.add_tokens(["<new>"])
    own.bos_token = "<new>"
    assert differences(own, base) == [
        "1 tokens more (<new>)",
        "bos_token '<new>', not None",
        "a chat template, which the base has not got",
    ]
    assert differences(base, own) == ["1 tokens fewer (<new>)", "bos_token None, not '<new>'", "no chat template"]
    other = tiny_tokenizer(chat=True)
    other.chat_template = OTHER_TEMPLATE
    assert differences(other, tiny_tokenizer(chat=True)) == ["another chat template"]
    lower = tiny_tokenizer()
    lower.backend_tokenizer.pre_tokenizer = None
    assert differences(lower, base) == ["other rules to cut a text into tokens"]


def test_hash_holds_the_end_token_and_not_the_padding():
    one, other = tiny_tokenizer(), tiny_tokenizer()
    other.pad_token = END
    other(["a", "a long text"], padding=True)
    assert tokenizer_hash(one) == tokenizer_hash(other)
    other.eos_token = "a"
    assert tokenizer_hash(one) != tokenizer_hash(other)


# Tokenizer and table


def test_lost_vocabulary_is_refused(tmp_path):
    """The library makes an empty tokenizer of a folder that lost its tokenizer.json."""
    folder = save_decoder(tmp_path, tiny_tokenizer())
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer", "eos_token": "</s>"}')
    assert len(LlamaTokenizer.from_pretrained(folder)) == 3
    with pytest.raises(ModelError, match=r"the tokenizer has no vocabulary: tokenizer.json is missing\?"):
        load(folder)


def larger(rows):
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<never-trained>"])
    return Decoder(tiny_model("llama", vocabulary=rows), tokenizer, name="tiny", max_length=96)


def test_tokens_beyond_the_table_are_refused_where_a_text_uses_them(caplog):
    with caplog.at_level(logging.WARNING, logger="influcoder"):
        decoder = larger(320)
    assert "knows 321 tokens, the embedding has 320 rows" in caplog.text
    assert len(decoder.tokenise([Example("a", "Hello ", "world")])) == 1
    told = r"example 'b': it holds token '<never-trained>' of id 320, .* embedding of 320 rows"
    with pytest.raises(DataError, match=told):
        decoder.tokenise([Example("a", "Hello ", "world"), Example("b", "Hello <never-trained> ", "world")])
    with pytest.raises(DataError, match="holds token '<never-trained>'"):
        decoder.answer(Example("b", "Hello <never-trained> ", "x"))


def test_much_larger_tokenizer_is_not_a_pair():
    with pytest.raises(ModelError, match="the tokenizer has 321 tokens, the embedding only 200 rows: not a pair"):
        larger(200)


def test_students_leave_tokens_beyond_the_table_out(tmp_path):
    from influcoder.student.decoder_tables import backbone_of
    from influcoder.student.static_reader import StaticReader

    decoder = larger(320)
    backbone_of(decoder).save(str(tmp_path / "backbone"), create_model_card=False)
    table = decoder.model.get_input_embeddings().weight.numpy()
    reader = StaticReader(decoder.tokenizer.backend_tokenizer, table)
    one, other = (reader.read([Example("a", text, "world")])[0] for text in ("Hello <never-trained>", "Hello "))
    assert (one["completion"] == other["completion"]).all()


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{{ '<|im_start|>' }}{{ messages }}<|im_end|>", r"writes <|im_end|>, <|im_start|>, which the tokenizer"),
        ("{% for m in messages %}[INST]{{ m['content'] }}[/INST]{% endfor %}", r"writes [/INST], [INST]"),
        (CHAT_TEMPLATE, ""),
    ],
)
def test_template_of_another_model_is_told(tmp_path, caplog, template, told):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    folder = save_decoder(tmp_path, tokenizer)
    with caplog.at_level(logging.WARNING, logger="influcoder"):
        load(folder)
    assert told in caplog.text
    assert bool(told) == ("is it this model's own?" in caplog.text)


def test_embedding_much_larger_than_the_tokenizer_is_told(caplog):
    with caplog.at_level(logging.WARNING, logger="influcoder"):
        Decoder(tiny_model("llama", vocabulary=900), tiny_tokenizer(), name="tiny")
    assert "knows 320 tokens, the embedding has 900 rows" in caplog.text


def test_trainer_leaves_everything_in_one_folder(base, adapter, tmp_path):
    """As TRL saves a run: adapter and tokenizer together, given as the decoder."""
    tiny_tokenizer(chat=True).save_pretrained(adapter)
    config = json.loads((adapter / "adapter_config.json").read_text()) | {"base_model_name_or_path": str(base)}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    run = shutil.copytree(adapter, tmp_path / "run")
    assert load(run).fingerprint == load(base, run).fingerprint
    assert read(load(run)).startswith("<user>Hello")
