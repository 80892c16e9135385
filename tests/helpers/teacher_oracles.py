"""Slow references for teachers: one example at a time, autograd over whole weights, explicit float64 matrices."""

import copy
import json
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from helpers.tiny import save_decoder
from influcoder.data.examples import Example

ADAM = {"lr": 1e-2, "betas": (0.8, 0.95), "weight_decay": 0.1}


def facts(count=12):
    """Examples that differ in length, prompt and completion."""
    places, words = ("France", "Italy", "Spain", "Hello"), ("Paris", "Rome is it", "four", "seven; not eight")
    return [
        Example(
            f"f{n}", f"{n} is the capital of {places[n % 4]}" + ", and so on" * (n % 3) + "? ", words[n * 7 % 11 % 4]
        )
        for n in range(count)
    ]


def token_losses(model, tokens):
    """-log p of every completion token."""
    ids = torch.from_numpy(tokens.ids)
    first = max(tokens.start, 1)
    logits = model(input_ids=ids[None]).logits[0, first - 1 : -1]
    return nn.functional.cross_entropy(logits, ids[first:], reduction="none")


def mean_loss(model, tokens):
    return token_losses(model, tokens).mean()


def mean_margin(model, tokens):
    """Minus the mean of log(p / (1 - p))."""
    losses = token_losses(model, tokens)
    return (losses + torch.log1p(-(-losses).exp())).mean()


def linear_weights(model):
    """The linear layers' weights but the head's, by name, and whether they are stored (inputs, outputs)."""
    return {
        name: (module.weight, isinstance(module, Conv1D))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and not name.endswith(("lm_head", "embed_out"))
    }


def weight_gradients(decoder, examples, objective=mean_loss):
    """{layer: (n, inputs, outputs) float64} by autograd, an example at a time."""
    model = copy.deepcopy(decoder.model).requires_grad_(True)
    weights = linear_weights(model)
    rows = [
        torch.autograd.grad(objective(model, tokens), [weight for weight, _ in weights.values()])
        for tokens in decoder.tokenise(examples)
    ]
    return {
        name: torch.stack([row[place] if conv else row[place].T for row in rows]).double()
        for place, (name, (_, conv)) in enumerate(weights.items())
    }


def flat(gradients):
    """(n, everything) of gradients by layer."""
    return torch.cat([one.flatten(1) for one in gradients.values()], dim=1)


def adapter_gradients(base, adapter, decoder, examples):
    """{parameter: (n, rows, columns)} of an unmerged adapter's A and B, transposed as views are."""
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter, is_trainable=True).eval()
    named = {
        name.removeprefix("base_model.model.").removesuffix(".default.weight"): parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    rows = [torch.autograd.grad(mean_loss(model, one), list(named.values())) for one in decoder.tokenise(examples)]
    return {name: torch.stack([row[place].T for row in rows]).double() for place, name in enumerate(named)}


def lora_model(family_model, *, rank=2, dense=True):
    """A model under a LoRA adapter whose B is not zero."""
    conv = any(isinstance(module, Conv1D) for module in family_model.modules())
    config = LoraConfig(
        r=rank,
        lora_alpha=3 * rank,
        target_modules=["c_attn", "c_proj"] if conv else ["q_proj", "down_proj"],
        fan_in_fan_out=conv,
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(family_model, config)
    if dense:
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(len(name)))
    return model


def take_steps(model, decoder, examples, steps):
    """Real AdamW steps on everything that can be trained, one batch of all examples; returns the optimizer."""
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], **ADAM)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.stack([mean_loss(model, tokens) for tokens in decoder.tokenise(examples)]).mean().backward()
        optimizer.step()
    return optimizer


def save_moments(folder: Path, model, optimizer, rate=None):
    """optimizer.safetensors as this package lays it out, and the facts beside it."""
    moments = {
        f"{name}.{moment}": optimizer.state[parameter][moment].contiguous().clone()
        for name, parameter in model.named_parameters()
        if parameter in optimizer.state
        for moment in ("exp_avg", "exp_avg_sq")
    }
    save_file(moments, folder / "optimizer.safetensors")
    said = {"betas": ADAM["betas"]} | ({} if rate is None else {"learning_rate": rate})
    (folder / "trainer_state.json").write_text(json.dumps(said))


def trained_checkpoints(folder: Path, decoder, rates=(1e-2, 3e-3)):
    """Folders of one run of full fine-tuning, with their learning rates and moments."""
    model = copy.deepcopy(decoder.model).requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), **ADAM)
    paths = []
    for number, rate in enumerate(rates, 1):
        for _ in range(2):
            optimizer.zero_grad()
            texts = decoder.tokenise(facts(4))
            torch.stack([mean_loss(model, tokens) for tokens in texts]).mean().backward()
            optimizer.step()
        path = folder / f"checkpoint-{number}"
        model.save_pretrained(path)
        decoder.tokenizer.save_pretrained(path)
        save_moments(path, model, optimizer, rate)
        paths.append(path)
    return paths


def trained_adapter(folder: Path, tokenizer, family="llama", steps=2, rate=1e-2):
    """(base folder, adapter folder) with moments, after real steps."""
    from influcoder.model.decoder import Decoder

    base = save_decoder(folder / "base", tokenizer, family)
    decoder = Decoder.load(base, device="cpu")
    model = lora_model(AutoModelForCausalLM.from_pretrained(base)).eval()
    optimizer = take_steps(model, decoder, facts(4), steps)
    adapter = folder / "adapter"
    model.save_pretrained(adapter)
    save_moments(adapter, model, optimizer, rate)
    return base, adapter


def adam_step(gradient, m, v, betas):
    """LESS's formula in float64."""
    first, second = betas
    m, v = m.double(), v.double()
    return (first * m + (1 - first) * gradient) / (second * v + (1 - second) * gradient**2 + 1e-8).sqrt()


def second_moment(rows):
    return rows.T.double() @ rows.double() / len(rows)


def damping_of(rows, share):
    """λ: a share of the mean of the eigenvalues that the sample can show."""
    return share * float(rows.double().square().sum()) / len(rows) / min(rows.shape)


def inverse_fisher(rows, damping):
    return torch.linalg.inv(second_moment(rows) + damping * torch.eye(rows.shape[1], dtype=torch.float64))


def mean_of_inverses(rows, damping):
    """DataInf's exact mean of (g gᵀ + λI)⁻¹."""
    eye = torch.eye(rows.shape[1], dtype=torch.float64)
    inverses = [torch.linalg.inv(torch.outer(row, row) + damping * eye) for row in rows.double()]
    return torch.stack(inverses).mean(dim=0)


def relative_error(found, expected):
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def influence(teacher, queries, pool):
    """The (n_queries, n_pool) matrix of a teacher's inner products."""
    return teacher.features(queries, "query").vectors @ teacher.features(pool, "pool").vectors.T
