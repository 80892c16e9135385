import json
import logging
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from tokenizers import processors
from transformers import BertConfig, BertLMHeadModel, BertModel

from helpers.tiny import END, VOCABULARY, save_decoder, tiny_decoder, tiny_model, tiny_tokenizer
from influcoder.data.examples import Example, example_from_row
from influcoder.errors import ConfigError, ModelError
from influcoder.model.batches import Tokens
from influcoder.model.decoder import Decoder

LONG = "The capital of France is Paris, and the capital of Italy is Rome. "


def tokenised(decoder, prompt, completion, **more):
    (tokens,) = decoder.tokenise([Example("a", prompt, completion, **more)])
    return tokens


def read(decoder, ids):
    return decoder.tokenizer.decode(ids, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize(
    ("prompt", "completion"),
    [("What is 2 + 2?", " four"), ("x\n", "y"), ("", "a whole text"), ("Ünïcode 日本 ", "🙂 ok"), ("a", "\n")],
)
def test_loss_starts_with_the_completion_and_ends_with_one_end_token(decoder, prompt, completion):
    tokens = tokenised(decoder, prompt, completion)
    assert read(decoder, tokens.ids[: tokens.start]) == prompt
    assert read(decoder, tokens.ids[tokens.start :]) == completion + END
    assert tokens.ids.dtype == np.int64
    assert list(tokens.ids).count(decoder.tokenizer.eos_token_id) == 1
    assert (tokens.prompt_cut, tokens.completion_cut, tokens.boundary_moved) == (False, False, False)


def test_targets_leave_out_a_first_token_that_nothing_predicts(decoder):
    assert tokenised(decoder, "", "Paris").targets == len(tokenised(decoder, "", "Paris").ids) - 1
    tokens = tokenised(decoder, "Hello ", "Paris")
    assert tokens.targets == len(tokens.ids) - tokens.start


def test_end_token_in_the_text_is_not_repeated(decoder):
    tokens = tokenised(decoder, "Hello ", f"world{END}")
    assert list(tokens.ids).count(decoder.tokenizer.eos_token_id) == 1


def test_chat_goes_through_the_template(chat_decoder):
    example = example_from_row(
        {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "world"}]}
    )
    (tokens,) = chat_decoder.tokenise([example])
    assert read(chat_decoder, tokens.ids[: tokens.start]) == f"<user>Hello{END}\n<assistant>"
    assert read(chat_decoder, tokens.ids[tokens.start :]) == f"world{END}\n"


def test_chat_with_several_turns(chat_decoder):
    turns = (("system", "s"), ("user", "q"), ("assistant", "a"), ("user", "r"))
    tokens = tokenised(chat_decoder, "ignored", "answer", turns=turns)
    assert read(chat_decoder, tokens.ids) == (
        f"<system>s{END}\n<user>q{END}\n<assistant>a{END}\n<user>r{END}\n<assistant>answer{END}\n"
    )
    assert read(chat_decoder, tokens.ids[tokens.start :]) == f"answer{END}\n"


def test_text_as_written_skips_the_template(chat_decoder):
    assert read(chat_decoder, tokenised(chat_decoder, "Hello ", "world").ids) == f"Hello world{END}"


def test_chat_without_a_template_is_its_words(decoder):
    tokens = tokenised(decoder, "Hello", "world", turns=(("user", "Hello"),))
    assert read(decoder, tokens.ids[: tokens.start]) == "Hello\n\n"
    assert read(decoder, tokens.ids[tokens.start :]) == f"world{END}"


def test_mixed_batch_keeps_its_order(chat_decoder):
    examples = [Example("a", "x", "one"), Example("b", "x", "two", (("user", "x"),)), Example("c", "y ", "three")]
    together = chat_decoder.tokenise(examples)
    for example, tokens in zip(examples, together, strict=True):
        (alone,) = chat_decoder.tokenise([example])
        np.testing.assert_array_equal(tokens.ids, alone.ids)
        assert tokens.start == alone.start


def adds_around(start=False, end=False):
    tokenizer = tiny_tokenizer()
    template = f"{f'{END} ' if start else ''}$A{f' {END}' if end else ''}"
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(END, tokenizer.eos_token_id)]
    )
    return tokenizer


@pytest.mark.parametrize("completion", ["(four)", "x"])
def test_tokenizer_that_ends_every_text(completion):
    decoder = tiny_decoder("llama", adds_around(end=True))
    tokens = tokenised(decoder, "Hello\n", completion)
    assert read(decoder, tokens.ids[: tokens.start]) == "Hello\n"
    assert read(decoder, tokens.ids[tokens.start :]) == completion + END


@pytest.mark.parametrize(("prompt", "completion"), [("Hello\n", "x"), ("", "world, x"), ("", "x")])
def test_tokenizer_that_begins_every_text_with_the_end_token(prompt, completion):
    decoder = tiny_decoder("llama", adds_around(start=True))
    tokens = tokenised(decoder, prompt, completion)
    assert read(decoder, tokens.ids[: tokens.start]) == END + prompt
    assert read(decoder, tokens.ids[tokens.start :]) == completion + END


def lengths(tokenizer, prompt, completion):
    whole = tokenised(tiny_decoder("llama", tokenizer), prompt, completion)
    return whole, len(whole.ids) - whole.start


def test_long_prompt_is_cut_on_the_left(tokenizer):
    whole, completion_length = lengths(tokenizer, LONG, "Hello world")
    for max_length in range(completion_length + 1, len(whole.ids)):
        tokens = tokenised(tiny_decoder("llama", tokenizer, max_length=max_length), LONG, "Hello world")
        np.testing.assert_array_equal(tokens.ids, whole.ids[-max_length:])
        assert tokens.targets == completion_length
        assert (tokens.prompt_cut, tokens.completion_cut) == (True, False)


def test_completion_too_long_by_itself_is_cut_at_its_end(tokenizer):
    whole, completion_length = lengths(tokenizer, "Hello ", LONG)
    for max_length in range(2, completion_length + 1):
        tokens = tokenised(tiny_decoder("llama", tokenizer, max_length=max_length), "Hello ", LONG)
        np.testing.assert_array_equal(tokens.ids, whole.ids[whole.start - 1 :][:max_length])
        assert (tokens.start, tokens.targets) == (1, max_length - 1)
        assert (tokens.prompt_cut, tokens.completion_cut) == (True, True)


def test_long_text_without_a_prompt_is_cut_at_its_end(tokenizer):
    whole, _ = lengths(tokenizer, "", LONG)
    tokens = tokenised(tiny_decoder("llama", tokenizer, max_length=10), "", LONG)
    np.testing.assert_array_equal(tokens.ids, whole.ids[:10])
    assert (tokens.prompt_cut, tokens.completion_cut) == (False, True)


def test_start_token_that_is_kept_is_no_cut_prompt():
    tokens = tokenised(tiny_decoder("llama", adds_around(start=True), max_length=10), "", LONG)
    assert tokens.start == 1
    assert (tokens.prompt_cut, tokens.completion_cut) == (False, True)


def test_text_that_just_fits_is_not_cut(tokenizer):
    whole, _ = lengths(tokenizer, "Hello ", "world")
    tokens = tokenised(tiny_decoder("llama", tokenizer, max_length=len(whole.ids)), "Hello ", "world")
    np.testing.assert_array_equal(tokens.ids, whole.ids)
    assert (tokens.prompt_cut, tokens.completion_cut) == (False, False)


def test_max_length_is_at_most_the_models_positions(tokenizer):
    assert tiny_decoder("llama", tokenizer, max_length=10_000).max_length == 128


def test_prompt_that_merges_with_its_completion_is_flagged(decoder, caplog):
    with caplog.at_level(logging.WARNING, logger="influcoder"):
        tokens = tokenised(decoder, "What is the capi", "tal of France")
    assert tokens.boundary_moved
    assert "1 of 1 prompts" in caplog.text
    assert read(decoder, tokens.ids) == f"What is the capital of France{END}"
    assert "What is the capi".startswith(read(decoder, tokens.ids[: tokens.start]))


def test_usual_prompts_are_not_warned_about(decoder, caplog):
    with caplog.at_level(logging.WARNING, logger="influcoder"):
        tokenised(decoder, "Hello\n", "world")
    assert caplog.text == ""


def test_tokenizer_without_end_token():
    with pytest.raises(ModelError, match="no end token"):
        tiny_decoder("llama", tiny_tokenizer(end=None))


def test_tokenizer_larger_than_the_embedding(tokenizer):
    with pytest.raises(ModelError, match="not a pair"):
        Decoder(tiny_model("llama", vocabulary=len(tokenizer) // 2), tokenizer, name="small")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_decoder(tmp_path_factory.mktemp("decoder"), tiny_tokenizer())


@pytest.fixture
def copied(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copied")


def load(path, **more):
    return Decoder.load(path, device="cpu", **more)


def test_loads_what_was_saved(saved, tokenizer):
    loaded, made = load(saved, max_length=96), tiny_decoder("llama", tokenizer)
    assert loaded.device.type == "cpu"
    assert loaded.model.dtype == torch.float32
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert loaded.fingerprint == made.fingerprint


@pytest.mark.parametrize(("dtype", "expected"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_dtype(saved, dtype, expected):
    assert load(saved, dtype=dtype).model.dtype == expected


def test_unknown_dtype(saved):
    with pytest.raises(ModelError, match="'int3' is unknown"):
        load(saved, dtype="int3")


def test_missing_folder(tmp_path):
    with pytest.raises(ModelError, match="absent"):
        load(tmp_path / "absent")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_missing_file(copied, name):
    (copied / name).unlink()
    with pytest.raises(ModelError, match="copied"):
        load(copied)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_cut_file(copied, name):
    data = (copied / name).read_bytes()
    (copied / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match="copied"):
        load(copied)


def test_weights_of_another_shape(copied):
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))
    with pytest.raises(ModelError, match="copied"):
        load(copied)


def test_weights_that_lack_a_layer(copied):
    config = json.loads((copied / "config.json").read_text())
    config |= {"num_hidden_layers": 3, "layer_types": ["full_attention"] * 3}
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"copied: the weights lack model\.layers\.2\..* and 6 more, which would stay"):
        load(copied)


def test_encoder_is_not_a_decoder(tmp_path, tokenizer):
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError):
        load(tmp_path)


def test_whole_encoder_with_a_head_is_not_a_decoder(tmp_path, tokenizer):
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    BertLMHeadModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no causal language model"):
        load(tmp_path)


@pytest.mark.parametrize("max_length", [-1, 0, 1])
def test_max_length_without_room_for_a_target(tokenizer, max_length):
    with pytest.raises(ConfigError, match=f"max_length is {max_length}"):
        tiny_decoder("llama", tokenizer, max_length=max_length)


def save_adapter(folder, model, **config):
    torch.manual_seed(1)
    adapted = get_peft_model(model, LoraConfig(r=2, **config))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    adapted.save_pretrained(folder)
    return folder


def losses(decoder):
    ids = torch.from_numpy(tokenised(decoder, "Hello ", "world").ids)[None]
    return float(decoder.model(input_ids=ids, labels=ids).loss)


def test_adapter_is_merged_and_changes_the_loss(saved, tmp_path):
    adapter = save_adapter(tmp_path / "adapter", tiny_model("llama"), target_modules=["q_proj", "v_proj"])
    plain, adapted = load(saved), load(saved, adapter=adapter)
    expected = get_peft_model(tiny_model("llama"), LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    expected.load_adapter(str(adapter), "other")
    expected.set_adapter("other")
    ids = torch.arange(5)[None]
    torch.testing.assert_close(adapted.model(ids).logits, expected.eval()(input_ids=ids).logits, rtol=1e-4, atol=1e-4)
    assert losses(plain) != pytest.approx(losses(adapted), rel=1e-4)
    assert str(adapter) in adapted.name
    assert plain.fingerprint.decoder != adapted.fingerprint.decoder
    assert not any("lora" in name for name, _ in adapted.model.named_modules())
    assert not any(parameter.requires_grad for parameter in adapted.model.parameters())


OTHER_BASES = [
    ("width", {"family": "llama", "width": 16}, {"target_modules": ["q_proj"]}),
    ("family", {"family": "gpt2"}, {"target_modules": ["c_attn"], "fan_in_fan_out": True}),
    ("fewer layers", {"family": "llama", "layers": 1}, {"target_modules": ["q_proj"]}),
    ("more layers", {"family": "llama", "layers": 3}, {"target_modules": ["q_proj"]}),
]


@pytest.mark.parametrize(("base", "config"), [case[1:] for case in OTHER_BASES], ids=[case[0] for case in OTHER_BASES])
def test_adapter_of_another_base(saved, tmp_path, base, config):
    adapter = save_adapter(tmp_path / "adapter", tiny_model(**base), **config)
    with pytest.raises(ModelError, match="adapter"):
        load(saved, adapter=adapter)


@pytest.mark.filterwarnings("ignore:Found missing adapter keys")
@pytest.mark.parametrize("layers", [1, 3])
def test_adapter_of_another_depth_names_the_layer(saved, tmp_path, layers):
    adapter = save_adapter(tmp_path / "adapter", tiny_model("llama", layers=layers), target_modules=["q_proj"])
    with pytest.raises(
        ModelError, match=rf"does not fit .* only one of the two has .*layers\.{layers - (layers > 2)}\."
    ):
        load(saved, adapter=adapter)


def test_missing_adapter(saved, tmp_path):
    with pytest.raises(ModelError, match="does not load as an adapter"):
        load(saved, adapter=tmp_path / "absent")


def test_cut_adapter(saved, tmp_path):
    adapter = save_adapter(tmp_path / "adapter", tiny_model("llama"), target_modules=["q_proj"])
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(ModelError, match="does not load as an adapter"):
        load(saved, adapter=adapter)


def test_same_decoder_same_fingerprint(tokenizer):
    assert tiny_decoder("llama", tokenizer).fingerprint == tiny_decoder("llama", tiny_tokenizer()).fingerprint


@pytest.mark.parametrize(
    "name", ["model.embed_tokens.weight", "model.layers.1.mlp.up_proj.weight", "model.norm.weight"]
)
def test_one_changed_weight_changes_the_fingerprint(tokenizer, name):
    one, other = tiny_decoder("llama", tokenizer), tiny_decoder("llama", tokenizer)
    other.model.get_parameter(name).data.view(-1)[3] += 1e-3
    assert one.fingerprint.decoder != other.fingerprint.decoder


def test_other_arithmetic_on_the_same_weights_changes_the_fingerprint(tokenizer):
    plain = tiny_model("llama")
    config = type(plain.config)(**plain.config.to_dict() | {"rms_norm_eps": 0.5})
    other = type(plain)(config)
    other.load_state_dict(plain.state_dict())
    assert Decoder(plain, tokenizer, name="x").fingerprint != Decoder(other, tokenizer, name="x").fingerprint


def test_tokenizer_template_and_length_change_the_fingerprint(tokenizer, chat_tokenizer):
    more = tiny_tokenizer()
    more.add_tokens(["newword"])
    plain = tiny_decoder("llama", tokenizer).fingerprint
    assert tiny_decoder("llama", chat_tokenizer).fingerprint.tokenizer != plain.tokenizer
    assert Decoder(tiny_model("llama", vocabulary=400), more, name="x").fingerprint.tokenizer != plain.tokenizer
    assert tiny_decoder("llama", tokenizer, max_length=64).fingerprint.max_length == 64


def test_tokenising_leaves_the_fingerprint_alone(tokenizer):
    used = tiny_decoder("llama", tokenizer)
    tokenised(used, "Hello ", "world")
    used.answer(Example("a", "Hello", "x"), max_new_tokens=2)
    assert used.fingerprint == tiny_decoder("llama", tokenizer).fingerprint


def test_answer_is_the_greedy_continuation(decoder):
    example = Example("a", "What is the capital of France? ", "ignored")
    ids = list(decoder.tokenise([example])[0].ids)[: len(decoder.tokenizer(example.prompt)["input_ids"])]
    made = []
    for _ in range(6):
        logits = decoder.model(torch.tensor([ids + made])).logits[0, -1]
        made.append(int(logits.argmax()))
        if made[-1] == decoder.tokenizer.eos_token_id:
            break
    expected = decoder.tokenizer.decode(made, skip_special_tokens=True).strip()
    assert decoder.answer(example, max_new_tokens=6) == expected


def test_answer_to_a_chat_and_to_a_long_prompt(chat_decoder):
    example = Example("a", "Hello", "x", (("user", "Hello"),))
    assert isinstance(chat_decoder.answer(example, max_new_tokens=3), str)
    assert isinstance(chat_decoder.answer(Example("b", LONG * 20, "x"), max_new_tokens=3), str)


def test_answer_to_an_empty_prompt_and_longer_than_the_model_reads(tokenizer):
    decoder = tiny_decoder("llama", tokenizer, max_length=8)
    for prompt in ("", LONG):
        assert isinstance(decoder.answer(Example("a", prompt, "x"), max_new_tokens=24), str)


@given(length=st.integers(2, 60), start=st.integers(0, 59), most=st.integers(2, 70))
def test_shortened_keeps_the_text_around_the_completion(length, start, most):
    start = min(start, length - 1)
    whole = Tokens(np.arange(length), start)
    short = whole.shortened(most)
    assert len(short.ids) == min(length, most)
    assert (np.diff(short.ids) == 1).all()
    first = max(start, 1)
    assert short.ids[max(short.start, 1)] == first, "the completion begins where it did"
    assert short.targets >= min(whole.targets, max(1, most // 2))
    assert short.prompt_cut == (short.ids[0] > 0)
    assert short.completion_cut == (short.ids[-1] < length - 1)


def test_a_shortened_decoder_is_the_same_model(decoder):
    example = [Example("a", "one two three four", " five six seven eight")]
    short = decoder.shortened(4)
    assert len(short.tokenise(example)[0].ids) == 4 < len(decoder.tokenise(example)[0].ids)
    assert short.model is decoder.model
    assert short.fingerprint == decoder.fingerprint
    with pytest.raises(ConfigError, match="shortened to 1 tokens, expected at least 2"):
        decoder.shortened(1)
