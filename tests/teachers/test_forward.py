"""Teachers without a backward pass, against explicit sums and autograd's gradient of the head."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from helpers.teacher_oracles import facts, mean_loss, relative_error
from helpers.tiny import VOCABULARY, some_examples, tiny_decoder
from influcoder.data.examples import Example
from influcoder.errors import ConfigError, ModelError
from influcoder.model.decoder import Decoder
from influcoder.store.codes import Plain
from influcoder.teachers.checkpoints import Checkpoint
from influcoder.teachers.forward import ForwardTeacher
from influcoder.teachers.make import make_teacher
from influcoder.teachers.settings import TeacherSettings

EXAMPLES = [*some_examples(), *facts(3)]
FAMILIES = ("llama", "llama-tied", "gpt2")


@pytest.fixture(params=FAMILIES)
def any_decoder(request, tokenizer):
    return tiny_decoder(request.param, tokenizer)


def teacher_of(decoder, name, **changes):
    return make_teacher(decoder, TeacherSettings.named(name, precision="fp32", token_budget=60, **changes))


@torch.no_grad()
def last_states(decoder, example):
    """(T, width) last hidden states of one example alone, as the head reads them."""
    ids = torch.from_numpy(decoder.tokenise([example])[0].ids)
    return decoder.model(input_ids=ids[None], output_hidden_states=True).hidden_states[-1][0].double()


def test_last_state_is_the_last_tokens(any_decoder):
    expected = torch.stack([last_states(any_decoder, one)[-1] for one in EXAMPLES])
    found = teacher_of(any_decoder, "repsim", similarity="dot").features(EXAMPLES, "query")
    assert relative_error(found.vectors, expected) < 1e-4


def test_mean_state_is_weighted_by_place(any_decoder):
    expected = []
    for example in EXAMPLES:
        states = last_states(any_decoder, example)
        places = torch.arange(1, len(states) + 1, dtype=torch.float64)
        expected.append((places[:, None] * states).sum(dim=0) / places.sum())
    found = teacher_of(any_decoder, "rds+", similarity="dot").features(EXAMPLES, "query")
    assert relative_error(found.vectors, torch.stack(expected)) < 1e-4


def gradients_before_the_head(decoder):
    """(n, width, width) by autograd, of a linear layer that is the identity and stands before the head."""
    model = copy.deepcopy(decoder.model)
    head = model.get_output_embeddings()
    layer = torch.eye(head.in_features, requires_grad=True)
    head.register_forward_pre_hook(lambda module, inputs: (inputs[0] @ layer.T,))
    return torch.stack(
        [torch.autograd.grad(mean_loss(model, tokens), layer)[0] for tokens in decoder.tokenise(EXAMPLES)]
    ).double()


def test_head_is_the_gradient_just_before_it(any_decoder):
    teacher = teacher_of(any_decoder, "forward", width=0, similarity="dot")
    expected = gradients_before_the_head(any_decoder).flatten(1)
    assert teacher.dim == expected.shape[1]
    assert relative_error(teacher.features(EXAMPLES, "pool").vectors, expected) < 1e-4


def test_head_products_are_right_on_average_over_seeds(decoder):
    gradients = gradients_before_the_head(decoder).flatten(1)
    truth = (gradients @ gradients.T).numpy()
    found = []
    for seed in range(40):
        teacher = teacher_of(decoder, "forward", width=100, similarity="dot", seed=seed)
        rows = teacher.features(EXAMPLES, "pool").vectors
        assert rows.shape[1] == teacher.dim == 100
        found.append(rows @ rows.T)
    error = np.std(found, axis=0, ddof=1) / len(found) ** 0.5
    assert (np.abs(np.mean(found, axis=0) - truth) < 4 * error + 1e-6).all()


@pytest.mark.parametrize("name", ["forward", "repsim", "rds+"])
def test_losses_are_those_of_the_completion(any_decoder, name):
    with torch.no_grad():
        expected = [float(mean_loss(any_decoder.model, one)) for one in any_decoder.tokenise(EXAMPLES)]
    np.testing.assert_allclose(teacher_of(any_decoder, name).features(EXAMPLES, "pool").losses, expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["forward", "repsim", "rds+"])
def test_nothing_is_learnt(decoder, name):
    teacher = teacher_of(decoder, name)
    teacher.fit(EXAMPLES, EXAMPLES)
    assert not teacher.needs_fitting
    assert teacher.state() == {}
    teacher.load({})
    assert teacher.code == Plain(teacher.dim)
    assert teacher.code.bytes == 2 * teacher.dim


def test_example_without_loss_has_no_gradient_of_the_head(decoder):
    found = teacher_of(decoder, "forward").features([*EXAMPLES[:2], Example("none", "", "")], "pool")
    assert found.columns["no_gradient"] == [False, False, True]


@pytest.fixture
def capped(tokenizer):
    """A decoder that caps what its head gives."""
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "head_dim": 8,
    }
    torch.manual_seed(0)
    config = Gemma2Config(
        **sizes,
        num_key_value_heads=2,
        vocab_size=VOCABULARY,
        initializer_range=0.5,
        final_logit_softcapping=1.0,
        eos_token_id=0,
        bos_token_id=0,
        pad_token_id=0,
    )
    return Decoder(Gemma2ForCausalLM(config).eval(), tokenizer, name="capped", max_length=96)


def test_losses_under_a_capped_head(capped):
    with torch.no_grad():
        expected = [float(mean_loss(capped.model, one)) for one in capped.tokenise(EXAMPLES)]
    np.testing.assert_allclose(teacher_of(capped, "repsim").features(EXAMPLES, "pool").losses, expected, rtol=1e-4)


def test_gradient_of_a_capped_head_is_refused(capped):
    with pytest.raises(ModelError, match=r"capped: its logits are not the head's product .* forward cannot tell"):
        teacher_of(capped, "forward")


def test_head_depends_on_the_seed_and_states_do_not(decoder):
    for name, same in (("forward", False), ("repsim", True), ("rds+", True)):
        width = None if same else 100
        one, other = (
            teacher_of(decoder, name, seed=seed, width=width).features(EXAMPLES, "pool").vectors for seed in (0, 1)
        )
        assert np.array_equal(one, other) is same


def test_bf16_is_close(decoder):
    for name in ("forward", "repsim", "rds+"):
        teacher = teacher_of(decoder, name)
        rough = ForwardTeacher(decoder, replace(teacher.settings, precision="bf16"))
        assert rough.provenance.teacher.settings["precision"] == "bf16"
        one, other = (each.features(EXAMPLES, "pool").vectors for each in (teacher, rough))
        assert (one * other).sum(axis=1).min() > 0.99


def test_checkpoints_are_refused(decoder, tmp_path):
    with pytest.raises(ConfigError, match="repsim takes one model, 1 checkpoints were given"):
        make_teacher(decoder, TeacherSettings.named("repsim"), checkpoints=[Checkpoint(tmp_path)])
