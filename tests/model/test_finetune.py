import copy
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from helpers import oracles
from helpers.tiny import some_examples, tiny_decoder
from influcoder.errors import ConfigError, DataError, ModelError, StoreError
from influcoder.model import finetune as finetuning
from influcoder.model.batches import make_batches
from influcoder.model.decoder import Decoder
from influcoder.model.finetune import FinetuneSettings, batches_of, completion_losses, finetune, measure_losses

PLAIN = FinetuneSettings(epochs=2, learning_rate=1e-3, rows_a_step=4, seed=3, precision="fp32", token_budget=64)


def weights(decoder):
    return {name: tensor.clone() for name, tensor in decoder.model.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one | other)


def losses(decoder, examples):
    return measure_losses(decoder.model, batches_of(decoder, decoder.tokenise(examples), 128), len(examples))


def test_a_step_takes_the_mean_over_examples_or_over_tokens(decoder):
    tokens = decoder.tokenise(some_examples())
    assert len({one.targets for one in tokens}) > 1
    batches = batches_of(decoder, tokens, 40)
    assert len(batches) > 1
    for reduction, counts in (("mean", [1] * len(tokens)), ("sum", [one.targets for one in tokens])):
        model = copy.deepcopy(decoder.model).requires_grad_(True)
        expected = sum(oracles.loss(model, one) * count for one, count in zip(tokens, counts, strict=True)) / sum(
            counts
        )
        expected.backward()
        wanted = {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}
        model.zero_grad()
        assert finetuning._backward(model, batches, reduction, bf16=False) == pytest.approx(
            float(expected.detach()), rel=1e-5
        )
        for name, one in model.named_parameters():
            if name in wanted:
                torch.testing.assert_close(
                    one.grad, wanted[name], rtol=1e-4, atol=1e-6 * float(wanted[name].abs().max())
                )


@pytest.mark.parametrize("family", ["llama", "llama-tied", "gpt2", "gpt-neox", "qwen3"])
def test_losses_are_the_plain_ones(family, tokenizer):
    decoder = tiny_decoder(family, tokenizer)
    tokens = decoder.tokenise(some_examples())
    expected = [float(oracles.loss(decoder.model, one)) for one in tokens]
    np.testing.assert_allclose(losses(decoder, some_examples()), expected, rtol=2e-6)


def test_the_head_reads_the_completion_alone(decoder):
    seen = []
    head = decoder.model.get_output_embeddings()
    head.register_forward_hook(lambda _, inputs, out: seen.append(out.shape[:-1].numel()))
    losses(decoder, some_examples())
    assert sum(seen) == sum(one.targets for one in decoder.tokenise(some_examples()))
    assert not head._forward_pre_hooks


class OfFlatRows(torch.nn.Module):
    """A head that is handed all positions of a batch in one row."""

    def __init__(self, model):
        super().__init__()
        self.model, self.head = model, model.get_output_embeddings()

    def forward(self, input_ids, use_cache):
        hidden = self.model.model(input_ids=input_ids, use_cache=False).last_hidden_state
        logits = self.head(hidden.flatten(0, 1)).unflatten(0, input_ids.shape)
        return SimpleNamespace(logits=logits)


def test_losses_of_a_model_whose_head_is_called_otherwise(decoder):
    expected = losses(decoder, some_examples())
    decoder.model.forward = OfFlatRows(decoder.model).forward
    np.testing.assert_allclose(losses(decoder, some_examples()), expected, rtol=1e-6)


def test_gradient_does_not_depend_on_the_batching(decoder):
    tokens = decoder.tokenise(some_examples())
    decoder.model.requires_grad_(True)
    found = []
    for budget in (1, 1000):
        decoder.model.zero_grad()
        for batch in make_batches(tokens, budget, decoder.device):
            completion_losses(decoder.model, batch).sum().backward()
        found.append(torch.cat([one.grad.flatten() for one in decoder.model.parameters()]))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


def test_lowers_the_loss_and_leaves_the_source_alone(decoder):
    before = weights(decoder)
    trained = finetune(decoder, some_examples(), FinetuneSettings(epochs=8, learning_rate=5e-3, rows_a_step=2))
    assert same(weights(decoder), before)
    assert not any(parameter.requires_grad for parameter in decoder.model.parameters())
    assert (losses(trained, some_examples()) < losses(decoder, some_examples())).all()
    assert losses(trained, some_examples()).mean() < 0.5 * losses(decoder, some_examples()).mean()
    assert trained.fingerprint.decoder != decoder.fingerprint.decoder


def test_same_seed_same_weights_other_seed_other_weights(decoder):
    one, again = (weights(finetune(decoder, some_examples(), FinetuneSettings(seed=1))) for _ in range(2))
    other = weights(finetune(decoder, some_examples(), FinetuneSettings(seed=2, rows_a_step=2)))
    assert same(one, again)
    assert not same(one, other)


RATES = [1e-3, 0.75e-3, 0.5e-3, 0.25e-3]
ROUNDING = 1e-5
"""of a float32 gradient, as a share of its largest element, when its sums are made in another order"""


def reference(decoder, examples, leave_out=()):
    """torch's AdamW, an example at a time, the order and the learning rates of `PLAIN` written out.

    Returns the model, the optimizer, and by parameter the share of a step that rounding may move each weight by. Adam
    divides a gradient by its size: where it is nearly 0 its rounding is a large share of a step, at most two of them.
    """
    model = tiny_decoder("llama", decoder.tokenizer).model.requires_grad_(True)
    tokens = decoder.tokenise(examples)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    rng = np.random.default_rng(3)
    steps = [part for _ in range(2) for part in np.array_split(rng.permutation(6), 2)]
    rounding = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    for step, rate in zip(steps, RATES, strict=True):
        kept = [place for place in step if place not in leave_out]
        if not kept:
            continue
        optimizer.param_groups[0]["lr"] = rate
        torch.stack([oracles.loss(model, tokens[place]) for place in kept]).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for name, parameter in model.named_parameters():
            size = parameter.grad.abs()
            share = (ROUNDING * size.max() / size).clamp_max(2)
            rounding[name] = torch.where(size > 0, torch.maximum(rounding[name], share), rounding[name])
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer, rounding


def assert_same_weights(trained, expected, rounding):
    for name, parameter in expected.named_parameters():
        difference = (trained.model.get_parameter(name) - parameter).detach().abs()
        allowed = sum(RATES) * rounding[name] + ROUNDING * parameter.detach().abs().max()
        assert (difference <= allowed).all(), name
        assert allowed.median() < 0.05 * sum(RATES)  # a wrong step is still seen in most weights


def test_checkpoints_hold_torchs_own_state(decoder, tmp_path):
    trained = finetune(decoder, some_examples(), PLAIN, checkpoints=tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["checkpoint-2", "checkpoint-4"]
    model, optimizer, rounding = reference(decoder, some_examples())
    assert_same_weights(trained, model, rounding)
    moments = load_file(tmp_path / "checkpoint-4/optimizer.safetensors")
    assert len(moments) == 2 * len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        for moment in ("exp_avg", "exp_avg_sq"):
            kept, expected = moments[f"{name}.{moment}"], optimizer.state[parameter][moment]
            assert kept.dtype is torch.float32
            torch.testing.assert_close(kept, expected, rtol=0, atol=1e-4 * expected.abs().max().item())
    states = [json.loads((tmp_path / f"checkpoint-{step}/trainer_state.json").read_text()) for step in (2, 4)]
    assert [state["step"] for state in states] == [2, 4]
    assert [state["learning_rate"] for state in states] == pytest.approx([0.875e-3, 0.375e-3])
    assert states[0]["betas"] == [0.9, 0.999]
    assert states[0]["eps"] == 1e-8


ORDER = np.random.default_rng(PLAIN.seed).permutation(6).tolist()


@pytest.mark.parametrize("leave_out", [{2}, set(ORDER[:3]), {0, 5}])
def test_examples_that_are_left_out_leave_the_others_where_they_are(leave_out, decoder):
    read = []
    trained = finetune(decoder, some_examples(), PLAIN, leave_out=leave_out, advance=read.append)
    model, _, rounding = reference(decoder, some_examples(), leave_out)
    assert_same_weights(trained, model, rounding)
    assert sum(read) == PLAIN.epochs * (6 - len(leave_out))


def test_all_examples_left_out(decoder):
    with pytest.raises(DataError, match="none of 6 examples"):
        finetune(decoder, some_examples(), leave_out=range(6))


@pytest.mark.parametrize("family", ["llama", "llama-tied"])
def test_a_checkpoint_is_a_decoder_and_holds_no_pickle(family, tokenizer, tmp_path):
    decoder = tiny_decoder(family, tokenizer)
    trained = finetune(decoder, some_examples(), PLAIN, checkpoints=tmp_path)
    loaded = Decoder.load(tmp_path / "checkpoint-4", device="cpu", max_length=decoder.max_length)
    assert same(weights(loaded), weights(trained))
    suffixes = {path.suffix for path in (tmp_path / "checkpoint-4").iterdir()}
    assert suffixes <= {".json", ".safetensors", ".jinja"}
    names = {name for name, _ in trained.model.named_parameters()}
    moments = load_file(tmp_path / "checkpoint-4/optimizer.safetensors")
    assert {key.removesuffix(".exp_avg").removesuffix(".exp_avg_sq") for key in moments} == names


def test_the_same_run_again_gives_the_same_bytes(decoder, tmp_path):
    contents = []
    for _ in range(2):
        finetune(decoder, some_examples(), PLAIN, checkpoints=tmp_path)
        contents.append({path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()})
    assert contents[0] == contents[1]


def test_a_folder_that_cannot_be_written_is_named(decoder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file/checkpoint-2: cannot write the checkpoint"):
        finetune(decoder, some_examples(), PLAIN, checkpoints=tmp_path / "file")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"rows_a_step": 0}, "rows_a_step is 0"),
        ({"reduction": "total"}, "reduction is 'total', expected one of mean, sum"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"precision": "fp8"}, "'fp8', expected one of auto, bf16, fp32"),
    ],
)
def test_wrong_settings_are_refused(wrong, words):
    with pytest.raises(ConfigError, match=words):
        FinetuneSettings(**wrong)


def test_nothing_to_learn_from(decoder):
    with pytest.raises(DataError, match="none of 0 examples"):
        finetune(decoder, [])


def test_a_loss_that_is_not_finite_stops_the_run(decoder):
    with pytest.raises(ModelError, match="loss of fine-tuning step"):
        finetune(decoder, some_examples(), FinetuneSettings(learning_rate=1e30, rows_a_step=2, precision="fp32"))
