"""Checkpoints and Adam's moments against torch's own optimizer and the Hugging Face Trainer's own files."""

import copy
import json
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments, default_data_collator

from helpers.teacher_oracles import (
    ADAM,
    adam_step,
    adapter_gradients,
    facts,
    flat,
    influence,
    lora_model,
    relative_error,
    save_moments,
    take_steps,
    trained_adapter,
    trained_checkpoints,
    weight_gradients,
)
from helpers.tiny import save_decoder, some_examples, tiny_decoder, tiny_model
from influcoder.errors import ConfigError, ModelError
from influcoder.model.adapters import plain_name
from influcoder.model.decoder import Decoder
from influcoder.model.layers import adapter as adapter_views
from influcoder.model.layers import weights as weight_views
from influcoder.teachers.checkpoints import AdamMoments, Checkpoint
from influcoder.teachers.gradient import GradientTeacher
from influcoder.teachers.kronecker import FittedViews
from influcoder.teachers.raw import RawFeatures
from influcoder.teachers.settings import TeacherSettings

SETTINGS = TeacherSettings(source="weights", width=0, similarity="dot", adam=True, precision="fp32", token_budget=60)
WIDE = 2**20  # so wide that hardly two numbers of a tiny model share a place
FAMILIES = ("llama", "llama-tied", "gpt2")
QUERIES, POOL = some_examples()[:4], facts(4)


@dataclass
class Run:
    """A training run's last checkpoint, and the very optimizer that made it."""

    checkpoint: Checkpoint
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer

    def moments(self, name):
        """(m, v) of a parameter by plain name, as torch has them."""
        found = {plain_name(own): parameter for own, parameter in self.model.named_parameters()}
        state = self.optimizer.state[found[name]]
        return state["exp_avg"], state["exp_avg_sq"]

    def views(self):
        decoder = self.checkpoint.load()
        return decoder, (adapter_views if decoder.adapter else weight_views)(decoder)


def full_run(folder, tokenizer, family):
    decoder = tiny_decoder(family, tokenizer)
    model = copy.deepcopy(decoder.model).requires_grad_(True)
    optimizer = take_steps(model, decoder, facts(4), 3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_moments(folder, model, optimizer, 1e-2)
    return Run(Checkpoint.read([folder])[0], model, optimizer)


def adapter_run(folder, tokenizer, family):
    base = save_decoder(folder / "base", tokenizer, family)
    model = lora_model(AutoModelForCausalLM.from_pretrained(base)).eval()
    optimizer = take_steps(model, Decoder.load(base, device="cpu"), facts(4), 3)
    model.save_pretrained(folder / "adapter")
    save_moments(folder / "adapter", model, optimizer, 1e-2)
    return Run(Checkpoint.read([folder / "adapter"], base=str(base))[0], model, optimizer)


def trainer_run(folder, tokenizer, family, *, adapter, groups=True):
    """Two steps of a real Trainer."""
    base = save_decoder(folder / "base", tokenizer, family)
    model = AutoModelForCausalLM.from_pretrained(base)
    model = lora_model(model) if adapter else model
    arguments = TrainingArguments(
        output_dir=str(folder / "run"),
        max_steps=2,
        save_steps=2,
        logging_steps=1,
        per_device_train_batch_size=2,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        adam_beta1=0.8,
        adam_beta2=0.95,
        weight_decay=0.1,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    rows = [{"input_ids": torch.arange(8) + 10 * n, "labels": torch.arange(8) + 10 * n} for n in range(4)]
    chosen = [one for one in model.parameters() if one.requires_grad]
    own = (None, None) if groups else (torch.optim.AdamW(chosen, betas=ADAM["betas"], lr=1e-2), None)
    trainer = Trainer(model, arguments, default_data_collator, rows, optimizers=own)
    trainer.train()
    path = folder / "run" / "checkpoint-2"
    tokenizer.save_pretrained(path)
    assert (path / "optimizer.pt").exists()
    read = Checkpoint.read([path], base=str(base) if adapter else None)[0]
    optimizer = trainer.optimizer
    return Run(read, model, getattr(optimizer, "optimizer", optimizer))


MAKERS = {
    "ours, whole": full_run,
    "ours, adapter": adapter_run,
    "trainer, whole": lambda *arguments: trainer_run(*arguments, adapter=False),
    "trainer, adapter": lambda *arguments: trainer_run(*arguments, adapter=True),
    "trainer, one group": lambda *arguments: trainer_run(*arguments, adapter=False, groups=False),
}


@pytest.fixture(scope="module", params=[(how, family) for how in MAKERS for family in FAMILIES], ids=", ".join)
def run(request, tokenizer, tmp_path_factory):
    how, family = request.param
    return MAKERS[how](tmp_path_factory.mktemp("run"), tokenizer, family)


def as_view(view, tensor, run):
    """A parameter-shaped tensor as its view lies: (inputs, outputs)."""
    conv = type(view.module).__name__ == "Conv1D" and view.name.endswith(".weight")
    return (tensor if conv else tensor.T).flatten()


def test_moments_are_the_optimizers_own(run):
    decoder, views = run.views()
    found = AdamMoments.of(run.checkpoint, decoder, views)
    assert found.betas == pytest.approx(ADAM["betas"])
    assert len(views) > 3
    for view in views:
        m, v = run.moments(view.name)
        assert m.any()
        assert v.any()
        torch.testing.assert_close(found.first[view.name], as_view(view, m, run), rtol=0, atol=0)
        torch.testing.assert_close(found.second[view.name], as_view(view, v, run), rtol=0, atol=0)


def gradients_of(run, decoder, examples):
    if decoder.adapter:
        return adapter_gradients(run.checkpoint.base, run.checkpoint.path, decoder, examples)
    return {f"{name}.weight": one for name, one in weight_gradients(decoder, examples).items()}


def raw(run, examples, role):
    decoder, views = run.views()
    moments = AdamMoments.of(run.checkpoint, decoder, views)
    found = RawFeatures(decoder, SETTINGS, FittedViews(views), moments=moments)
    return decoder, views, found(decoder.tokenise(examples), role)[0]


def test_pool_features_are_the_formula_once_and_queries_plain(run):
    decoder, views, found = raw(run, POOL, "pool")
    gradients = gradients_of(run, decoder, POOL)
    expected = torch.cat(
        [
            adam_step(
                gradients[view.name].flatten(1),
                *(as_view(view, moment, run) for moment in run.moments(view.name)),
                ADAM["betas"],
            )
            for view in views
        ],
        dim=1,
    )
    assert relative_error(found, expected) < 1e-3
    plain = torch.cat([gradients[view.name].flatten(1) for view in views], dim=1)
    assert relative_error(raw(run, POOL, "query")[2], plain) < 1e-4


def test_formula_is_what_adams_next_step_remembers(run):
    decoder, views, found = raw(run, POOL[:1], "pool")
    gradients = gradients_of(run, decoder, POOL[:1])
    model = copy.deepcopy(run.model)
    named = dict(model.named_parameters())
    optimizer = torch.optim.AdamW([{"params": [one]} for one in named.values() if one.requires_grad], **ADAM)
    own = {name: parameter for name, parameter in run.model.named_parameters() if parameter.requires_grad}
    for name, parameter in own.items():
        optimizer.state[named[name]] = copy.deepcopy(run.optimizer.state[parameter])
    expected = []
    for view in views:
        name = next(name for name in own if plain_name(name) == view.name)
        stored = as_view(view, torch.arange(named[name].numel()).view(named[name].shape), run)  # where each one lies
        gradient = torch.zeros(named[name].numel())
        gradient[stored] = gradients[view.name].flatten().float()
        named[name].grad = gradient.view(named[name].shape)
    optimizer.step()
    for view in views:
        name = next(name for name in own if plain_name(name) == view.name)
        state = optimizer.state[named[name]]
        expected.append(as_view(view, state["exp_avg"] / (state["exp_avg_sq"] + 1e-8).sqrt(), run))
    assert relative_error(found[0], torch.cat(expected)) < 1e-3


def test_trainers_learning_rate_is_read(tmp_path, tokenizer):
    run = trainer_run(tmp_path, tokenizer, "llama", adapter=False)
    assert run.checkpoint.weight == pytest.approx(1e-2)
    assert run.checkpoint.base is None


# Several checkpoints


@pytest.fixture(scope="module")
def checkpoints(tokenizer, tmp_path_factory):
    return trained_checkpoints(tmp_path_factory.mktemp("checkpoints"), tiny_decoder("llama", tokenizer))


def shares_and_gradients(checkpoints):
    read = Checkpoint.read(checkpoints)
    assert [one.weight for one in read] == [1e-2, 3e-3]
    total = sum(one.weight for one in read)
    for one in read:
        decoder = one.load()
        yield one, decoder, one.weight / total, flat(weight_gradients(decoder, QUERIES)), decoder


def summed_over_seeds(decoder, checkpoints, **changes):
    settings = TeacherSettings(source="weights", width=WIDE, precision="fp32", token_budget=60, **changes)
    return GradientTeacher(decoder, settings, checkpoints=Checkpoint.read(checkpoints))


def test_tracin_is_the_sum_of_weighted_products(decoder, checkpoints):
    expected = 0
    for _, model, share, queries, _ in shares_and_gradients(checkpoints):
        expected = expected + share * queries @ flat(weight_gradients(model, POOL)).T
    teacher = summed_over_seeds(decoder, checkpoints, similarity="dot")
    assert relative_error(influence(teacher, QUERIES, POOL), expected) < 0.02
    assert not np.allclose(expected, queries @ flat(weight_gradients(model, POOL)).T, rtol=0.2)


def test_less_is_the_sum_of_weighted_cosines(decoder, checkpoints):
    expected = 0
    for checkpoint, model, share, queries, _ in shares_and_gradients(checkpoints):
        views = weight_views(model)
        moments = AdamMoments.of(checkpoint, model, views)
        gradients = weight_gradients(model, POOL)
        pool = torch.cat(
            [
                adam_step(
                    gradients[view.name.removesuffix(".weight")].flatten(1),
                    moments.first[view.name],
                    moments.second[view.name],
                    ADAM["betas"],
                )
                for view in views
            ],
            dim=1,
        )
        cosines = torch.nn.functional.normalize(queries, dim=1) @ torch.nn.functional.normalize(pool, dim=1).T
        expected = expected + share * cosines
    teacher = summed_over_seeds(decoder, checkpoints, adam=True)
    assert relative_error(influence(teacher, QUERIES, POOL), expected) < 0.03


def test_less_takes_a_trained_adapters_gradients(tokenizer, tmp_path):
    base, adapter = trained_adapter(tmp_path, tokenizer)
    decoder = Decoder.load(base, adapter=adapter, device="cpu")
    settings = TeacherSettings.named("less", width=WIDE, precision="fp32")
    read = Checkpoint.read([adapter], base=str(base))
    teacher = GradientTeacher(decoder, settings, checkpoints=read)
    queries, pool = (adapter_gradients(base, adapter, decoder, side) for side in (QUERIES, POOL))
    moments = AdamMoments.of(read[0], decoder, adapter_views(decoder))
    stepped = {
        name: adam_step(one.flatten(1), moments.first[name], moments.second[name], ADAM["betas"])
        for name, one in pool.items()
    }
    first, second = (torch.nn.functional.normalize(flat(side), dim=1) for side in (queries, stepped))
    assert relative_error(influence(teacher, QUERIES, POOL), first @ second.T) < 0.02


def test_one_checkpoint_is_its_model(checkpoints):
    decoder = Decoder.load(checkpoints[1], device="cpu")
    settings = TeacherSettings(rank=4, width=512, precision="fp32", similarity="dot")
    alone = GradientTeacher(decoder, settings).features(QUERIES, "query").vectors
    summed = GradientTeacher(decoder, settings, checkpoints=Checkpoint.read(checkpoints[1:]))
    np.testing.assert_allclose(summed.features(QUERIES, "query").vectors, alone, rtol=1e-6)


def test_norms_of_several_are_their_weighted_mean(decoder, checkpoints):
    squares = 0
    for _, _, share, queries, _ in shares_and_gradients(checkpoints):
        squares = squares + share * queries.square().sum(dim=1)
    for similarity in ("dot", "cosine"):
        found = summed_over_seeds(decoder, checkpoints, similarity=similarity).features(QUERIES, "query")
        np.testing.assert_allclose(found.norms, squares.sqrt(), rtol=0.02)


def test_made_by_names_checkpoints_shares_and_optimizers(decoder, checkpoints):
    settings = TeacherSettings.named("less", width=512)
    made = GradientTeacher(decoder, settings, checkpoints=Checkpoint.read(checkpoints)).provenance.teacher.checkpoints
    assert [round(one.share, 3) for one in made] == [0.769, 0.231]
    assert len({one.decoder for one in made} | {decoder.fingerprint.decoder}) == 3
    assert len({one.optimizer for one in made}) == 2


# What is refused


@pytest.fixture
def spoilt(checkpoints, tmp_path):
    """A checkpoint of its own to damage."""
    return Path(shutil.copytree(checkpoints[0], tmp_path / "spoilt"))


def read_moments(folder):
    read = Checkpoint.read([folder])[0]
    decoder = read.load()
    return AdamMoments.of(read, decoder, weight_views(decoder))


def test_missing_optimizer(spoilt):
    (spoilt / "optimizer.safetensors").unlink()
    with pytest.raises(ModelError, match=r"spoilt: neither optimizer.safetensors nor optimizer.pt .* tracin"):
        read_moments(spoilt)


@pytest.mark.parametrize("bytes_", [b"", b"\x00" * 100, b'{"a": 1}'])
@pytest.mark.parametrize("name", ["optimizer.safetensors", "optimizer.pt"])
def test_damaged_optimizer(spoilt, name, bytes_):
    (spoilt / "optimizer.safetensors").unlink()
    (spoilt / name).write_bytes(bytes_)
    with pytest.raises(ModelError, match=f"{name}: not a"):
        read_moments(spoilt)


class Trap:
    def __reduce__(self):
        return open, ("trap-was-sprung", "w")


def test_pickle_is_not_run(spoilt, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (spoilt / "optimizer.safetensors").unlink()
    (spoilt / "optimizer.pt").write_bytes(pickle.dumps({"state": Trap(), "param_groups": []}))
    with pytest.raises(ModelError, match="not an optimizer's state that torch can read safely"):
        read_moments(spoilt)
    assert not (tmp_path / "trap-was-sprung").exists()


def test_one_moment_without_the_other(spoilt):
    save_file({"a.weight.exp_avg": torch.zeros(2)}, spoilt / "optimizer.safetensors")
    with pytest.raises(ModelError, match=r"a\.weight has exp_avg and no exp_avg_sq"):
        read_moments(spoilt)


def other_moments(width):
    other = tiny_model("llama", width=width).requires_grad_(True)
    optimizer = torch.optim.AdamW(other.parameters())
    other(input_ids=torch.arange(5)[None]).logits.sum().backward()
    optimizer.step()
    return other, optimizer


def test_optimizer_of_another_width(spoilt):
    save_moments(spoilt, *other_moments(16))
    with pytest.raises(ModelError, match=r"another model.*q_proj.weight of shape \(32, 32\); it holds \(16, 16\)"):
        read_moments(spoilt)


def test_optimizer_without_a_layer(spoilt):
    save_file({"x.exp_avg": torch.zeros(2), "x.exp_avg_sq": torch.zeros(2)}, spoilt / "optimizer.safetensors")
    with pytest.raises(ModelError, match=r"spoilt has .*q_proj.weight of shape \(32, 32\); it holds nothing"):
        read_moments(spoilt)


def test_trainers_optimizer_of_another_model(spoilt):
    (spoilt / "optimizer.safetensors").unlink()
    layer = torch.nn.Linear(3, 3)
    few = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(3)).sum().backward()
    few.step()
    torch.save(few.state_dict(), spoilt / "optimizer.pt")
    with pytest.raises(ModelError, match=r"another model.*of shape \(32, 32\) it holds 0, the model has 4"):
        read_moments(spoilt)
    torch.save(other_moments(16)[1].state_dict(), spoilt / "optimizer.pt")
    with pytest.raises(ModelError, match=r"of shape \(32, 32\) it holds 0"):
        read_moments(spoilt)


def test_learning_rates_of_only_some(checkpoints, spoilt):
    (spoilt / "trainer_state.json").unlink()
    with pytest.raises(ModelError, match=r"checkpoint-1 says its learning rate and .*spoilt does not"):
        Checkpoint.read([checkpoints[0], spoilt])
    assert [one.weight for one in Checkpoint.read([spoilt])] == [1.0]


def test_learning_rate_of_zero_stays_zero(decoder, checkpoints, spoilt):
    (spoilt / "trainer_state.json").write_text(json.dumps({"log_history": [{"learning_rate": 0.0}, {"loss": 1}]}))
    assert [one.weight for one in Checkpoint.read([spoilt, checkpoints[1]])] == [0.0, 3e-3]
    with pytest.raises(ConfigError, match="their learning rates, add up to 0"):
        GradientTeacher(decoder, TeacherSettings.named("tracin"), checkpoints=Checkpoint.read([spoilt]))


def test_last_logged_learning_rate_counts(spoilt):
    logged = [{"learning_rate": 0.5}, {"learning_rate": 0.25}, {"loss": 1}]
    (spoilt / "trainer_state.json").write_text(json.dumps({"log_history": logged}))
    assert Checkpoint.read([spoilt])[0].weight == 0.25


def test_facts_that_are_not_json(spoilt):
    (spoilt / "trainer_state.json").write_text("{")
    with pytest.raises(ModelError, match=r"trainer_state.json: not JSON"):
        Checkpoint.read([spoilt])


def test_no_such_checkpoint(tmp_path):
    with pytest.raises(ModelError, match="nowhere: no such folder"):
        Checkpoint.read([tmp_path / "nowhere"])


@pytest.mark.parametrize(
    ("sizes", "settings", "message"),
    [
        ({"layers": 1}, {}, r"other has 7 gradients to take, tiny-llama 14"),
        ({"width": 16}, {"source": "weights"}, r"q_proj.weight has shape \(16, 16\), tiny-llama has .* of \(32, 32\)"),
        ({"width": 16}, {}, r"q_proj has shape \(4, 16\), tiny-llama has .*q_proj of \(4, 32\)"),
    ],
)
def test_checkpoints_of_other_shapes(decoder, tmp_path, sizes, settings, message):
    tiny_model("llama", **sizes).save_pretrained(tmp_path / "other")
    decoder.tokenizer.save_pretrained(tmp_path / "other")
    settings = TeacherSettings.named("tracin", width=64, rank=4, **settings)
    with pytest.raises(ModelError, match=message):
        GradientTeacher(decoder, settings, checkpoints=Checkpoint.read([tmp_path / "other"]))
