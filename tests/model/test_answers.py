import pytest
import torch
from transformers import RwkvConfig, RwkvForCausalLM

from helpers.tiny import FAMILIES, some_examples, tiny_decoder
from influcoder.data.examples import Example
from influcoder.model import answers
from influcoder.model.decoder import Decoder

ASKED = [*some_examples(), Example("long", "Hello world, two plus two is four; " * 3, "x"), Example("empty", "", "x")]


def expected(model, prompt, count, end):
    """The greedy continuation, every step from the whole text without a cache."""
    made = []
    for _ in range(count):
        made.append(int(model(torch.tensor([prompt + made]), use_cache=False).logits[0, -1].argmax()))
        if made[-1] == end:
            break
    return made


@pytest.fixture
def recurrent(tokenizer):
    torch.manual_seed(0)
    config = RwkvConfig(
        vocab_size=320, hidden_size=32, num_hidden_layers=2, attention_hidden_size=32, bos_token_id=0, eos_token_id=0
    )
    return Decoder(RwkvForCausalLM(config), tokenizer, name="tiny-rwkv", max_length=96)


def prompts(decoder):
    return [decoder.tokeniser.prompt(example) or [0] for example in ASKED]


def made_in_batches(decoder, monkeypatch):
    """The continuations of all prompts, and how many prompts each call of `generate` had; the last two are a check."""
    sizes = []
    generate = answers._generate
    monkeypatch.setattr(
        answers,
        "_generate",
        lambda model, some, *more, **named: (sizes.append(len(some)), generate(model, some, *more, **named))[1],
    )
    return answers.greedy_tokens(decoder.model, prompts(decoder), 12, 0), sizes[2:]


@pytest.mark.parametrize("family", FAMILIES)
def test_together_as_each_alone(family, tokenizer, monkeypatch):
    decoder = tiny_decoder(family, tokenizer)
    made, sizes = made_in_batches(decoder, monkeypatch)
    assert made == [expected(decoder.model, prompt, 12, 0) for prompt in prompts(decoder)]
    assert sizes == [len(ASKED)]


def test_a_model_that_reads_padding_answers_one_by_one(recurrent, monkeypatch):
    made, sizes = made_in_batches(recurrent, monkeypatch)
    assert made == [expected(recurrent.model, prompt, 12, 0) for prompt in prompts(recurrent)]
    assert sizes == [1] * len(ASKED)


def test_few_tokens_at_a_time(decoder, monkeypatch):
    monkeypatch.setattr(answers, "TOKEN_BUDGET", 100)
    made, sizes = made_in_batches(decoder, monkeypatch)
    assert made == [expected(decoder.model, prompt, 12, 0) for prompt in prompts(decoder)]
    assert 1 < len(sizes) < len(ASKED)


def test_an_answer_stops_at_its_end(decoder):
    """One that ends early is as long as it is, beside others that go on."""
    head = decoder.model.get_output_embeddings()
    ends, goes_on = prompts(decoder)[0], prompts(decoder)[1]
    hidden = decoder.model.model(torch.tensor([ends])).last_hidden_state[0, -1]
    with torch.no_grad():
        head.weight[0] = 10 * hidden / hidden.norm()
    made = answers.greedy_tokens(decoder.model, [ends, goes_on], 8, 0)
    assert made[0] == [0]
    assert made == [expected(decoder.model, prompt, 8, 0) for prompt in (ends, goes_on)]


def test_answers_in_the_order_of_the_examples(decoder):
    found = decoder.answers(ASKED, max_new_tokens=6)
    assert found == [decoder.answer(example, max_new_tokens=6) for example in ASKED]
    assert len(set(found)) > 3
    assert decoder.answers([]) == []
