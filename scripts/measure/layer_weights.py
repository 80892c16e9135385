"""Which layers' gradients predict retraining, and do learnt weights of layers carry over?

    python scripts/measure/layer_weights.py --run runs/causal-demo-mean --decoder DECODER --data DIR

RUN is the folder of an `influcoder benchmark causal --data DIR` that is done: its first seed's trained model and its
retrained halves are taken from there. The influence of every row on every question is computed once for every layer
(LoRA-B gradients, not sketched), so that everything else is algebra: dot, cosine of the whole, cosine of each layer,
the last k layers, and non-negative weights of the layers.

The weights are learnt by least squares from what halves of the pool did to the questions' losses, and judged on other
questions and other halves: both are cut in two, four times over. Beside them stands the finite step: by how much a step
along the question's gradient and back changes each row's loss, which needs no backward pass of the pool.

Numbers are LDS, means over questions with bootstrap intervals. They go to RUN/layer-weights.json.
"""

import argparse
import re
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls

from gradients import machine
from influcoder import __version__
from influcoder.benchmarks.results.tables import markdown
from influcoder.benchmarks.settings import CausalSettings
from influcoder.benchmarks.tasks.causal import Causal
from influcoder.data.examples import Example
from influcoder.evaluation.retraining import draw_subsets, interval, lds, losses_of
from influcoder.model.batches import Batch, make_batches
from influcoder.model.decoder import Decoder
from influcoder.model.finetune import completion_losses
from influcoder.model.gradients import LayerGradients
from influcoder.model.layers import View, lora_b
from influcoder.store.files import write_json
from influcoder.store.store import Store

Array = NDArray[np.float64]
BUDGET = 1024
"""tokens that go through the model together"""
STEP = 1e-2
"""of the finite step: its length, as a share of the parameters'"""
CUTS = 4


def gradients(decoder: Decoder, views: list[View], examples: list[Example]) -> list[torch.Tensor]:
    """(n, length) of each view, half precision."""
    engine = LayerGradients(decoder, views)
    kept = [torch.zeros(len(examples), view.length, dtype=torch.float16) for view in views]
    for batch in make_batches(decoder.tokenise(examples), engine.budget(BUDGET), decoder.device):

        def keep(view: int, part: torch.Tensor, places: list[int] = batch.places) -> None:
            kept[view][places] = part.half()

        engine.run(batch, keep)
    return kept


def by_view(decoder: Decoder, views: list[View], pool: list[Example], queries: list[Example]) -> dict[str, Array]:
    """Inner products (views, n_queries, n_pool) and squared lengths (views, n) of each side."""
    asked, rows = gradients(decoder, views, queries), gradients(decoder, views, pool)
    pairs = [(q.double(), x.double()) for q, x in zip(asked, rows, strict=True)]
    return {
        "products": np.stack([(q @ x.T).numpy() for q, x in pairs]),
        "queries": np.stack([q.square().sum(1).numpy() for q, _ in pairs]),
        "pool": np.stack([x.square().sum(1).numpy() for _, x in pairs]),
    }


def cosines(parts: dict[str, Array], groups: NDArray[np.int64]) -> Array:
    """(groups, n_queries, n_pool): the cosine of each group of views."""
    found = []
    for group in np.unique(groups):
        here = groups == group
        lengths = np.sqrt(parts["queries"][here].sum(0)[:, None] * parts["pool"][here].sum(0)[None])
        found.append(parts["products"][here].sum(0) / np.maximum(lengths, 1e-30))
    return np.stack(found)


def learnt(layers: Array, subsets: NDArray[np.int64], losses: Array, seed: int) -> tuple[Array, Array]:
    """(LDS on unseen questions and halves, mean weights): both are cut in two, and each part predicts the other."""
    rng, values, weights = np.random.default_rng(seed), [], []
    questions, halves = rng.permutation(layers.shape[1]), rng.permutation(len(subsets))
    for q_learn, q_judge in _both(questions):
        for s_learn, s_judge in _both(halves):
            summed = np.stack([layers[:, q_learn][:, :, members].sum(2) for members in subsets[s_learn]], 2)
            features = _standard(summed.reshape(len(layers), len(q_learn), len(s_learn)))
            target = _standard(-losses[s_learn][:, q_learn].T)
            solved = nnls(features.reshape(len(layers), -1).T, target.ravel())[0]
            scale = summed.std(axis=2).mean(axis=1)
            weight = solved / np.maximum(scale, 1e-30)
            scores = np.tensordot(weight, layers[:, q_judge], 1)
            judged = np.full(layers.shape[1], np.nan)
            judged[q_judge] = lds(scores, subsets[s_judge], losses[s_judge][:, q_judge])
            values.append(judged)
            weights.append(weight / max(weight.sum(), 1e-30))
    return np.nanmean(values, axis=0), np.mean(weights, axis=0)


def finite_step(decoder: Decoder, pool: list[Example], queries: list[Example]) -> Array:
    """(n_queries, n_pool): L(x; θ + εg) - L(x; θ - εg), g the gradient of a question's loss, all parameters."""
    parameters = {name: p.detach().clone() for name, p in decoder.model.named_parameters()}
    size, found = _length(parameters), np.zeros((len(queries), len(pool)))
    for place, batch in enumerate(_one_by_one(decoder, queries)):
        decoder.model.requires_grad_(True)
        completion_losses(decoder.model, batch).sum().backward()  # type: ignore[no-untyped-call]
        gradient = {name: p.grad for name, p in decoder.model.named_parameters() if p.grad is not None}
        decoder.model.requires_grad_(False).zero_grad()
        step, sides = STEP * size / max(_length(gradient), 1e-30), []
        for sign in (1, -1):
            _move(decoder, parameters, gradient, sign * step)
            sides.append(losses_of(decoder, pool))
        found[place] = sides[0] - sides[1]
    _move(decoder, parameters, {}, 0)
    return found


def _one_by_one(decoder: Decoder, examples: list[Example]) -> list[Batch]:
    return [next(make_batches([tokens], BUDGET, decoder.device)) for tokens in decoder.tokenise(examples)]


def _length(tensors: dict[str, torch.Tensor]) -> float:
    return float(np.sqrt(sum(float(tensor.square().sum()) for tensor in tensors.values())))


@torch.no_grad()
def _move(decoder: Decoder, start: dict[str, torch.Tensor], along: dict[str, torch.Tensor], step: float) -> None:
    """Set the parameters to those of the start, and a step beyond them."""
    for name, parameter in decoder.model.named_parameters():
        parameter.copy_(start[name])
        if name in along:
            parameter.add_(along[name], alpha=step)


def _both(order: NDArray[np.int64]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    half = len(order) // 2
    return [(order[:half], order[half:]), (order[half:], order[:half])]


def _standard(values: Array) -> Array:
    centred = values - values.mean(axis=-1, keepdims=True)
    return np.asarray(centred / np.maximum(centred.std(axis=-1, keepdims=True), 1e-30))


def _depths(views: list[View]) -> NDArray[np.int64]:
    """The number of the layer that each view lies in, from 0; views outside of the layers count as their own."""
    numbers = [re.search(r"\.(\d+)\.", view.name) for view in views]
    return np.array([int(number[1]) if number else -1 for number in numbers])


def policies(parts: dict[str, Array], depths: NDArray[np.int64], tokens: Array) -> dict[str, Array]:
    """Scores (n_queries, n_pool) by name: all of them are algebra on the same products."""
    each, one = cosines(parts, np.arange(len(depths))), np.zeros(len(depths), np.int64)
    found = {
        "dot, mean loss": parts["products"].sum(0),
        "dot, summed loss": parts["products"].sum(0) * tokens,
        "cosine": cosines(parts, one)[0],
        "cosine x √tokens": cosines(parts, one)[0] * np.sqrt(tokens),
        "cosine of each module": each.sum(0),
        "cosine of each layer": cosines(parts, depths).sum(0),
    }
    layers = int(depths.max()) + 1
    for last in sorted({max(1, round(share * layers)) for share in (1 / 6, 1 / 3, 1 / 2, 2 / 3)}):
        found[f"modules of the last {last} of {layers} layers"] = each[depths >= layers - last].sum(0)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--decoder", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--subsets", type=int, default=40)
    parser.add_argument("--max-length", type=int, default=192)
    arguments = parser.parse_args()
    base = Decoder.load(arguments.decoder, max_length=arguments.max_length)
    problem = Causal.of_files(base, CausalSettings(max_length=arguments.max_length), data=arguments.data).problem
    pool, queries = list(problem.pool), list(problem.queries)
    losses = Store(arguments.run / "retrained").vectors().astype(np.float64)
    subsets = draw_subsets(len(pool), arguments.subsets, seed=0)[: len(losses)]
    checkpoint = sorted((arguments.run / "seed-0" / "model").glob("checkpoint-*"), key=lambda p: int(p.name[11:]))[-1]
    model = Decoder.load(checkpoint, max_length=arguments.max_length)
    tokens = np.array([row.targets for row in model.tokenise(pool)], float)
    views = lora_b(model, rank=arguments.rank, seed=0)
    parts, depths = by_view(model, views, pool, queries), _depths(views)
    found = {name: lds(scores, subsets, losses) for name, scores in policies(parts, depths, tokens).items()}
    found["finite step"] = lds(finite_step(model, pool, queries), subsets, losses)
    weights = {}
    for name, groups in (("modules", np.arange(len(views))), ("layers", depths)):
        each = cosines(parts, groups)
        cuts = [learnt(each, subsets, losses, seed) for seed in range(CUTS)]
        found[f"learnt weights of {name}, unseen questions and halves"] = np.mean([cut[0] for cut in cuts], axis=0)
        labels = [view.name for view in views] if name == "modules" else [str(depth) for depth in np.unique(depths)]
        weights[name] = dict(zip(labels, np.mean([cut[1] for cut in cuts], axis=0).round(4).tolist(), strict=True))
    record = {
        "version": __version__,
        "machine": machine("cpu"),
        "rank": arguments.rank,
        "halves": len(losses),
        "lds": {name: {"mean": float(row.mean()), "interval_95": interval(row)} for name, row in found.items()},
        "weights": weights,
    }
    write_json(arguments.run / "layer-weights.json", record)
    lines = [[name, f"{row.mean():.3f}", "{:.2f} to {:.2f}".format(*interval(row))] for name, row in found.items()]
    print(markdown(["", "LDS", "95 %"], lines))


if __name__ == "__main__":
    main()
