"""The paper's recipe, kept for comparison: block-wise distillation of a bi-encoder.

Kachler, Sileo, Denis 2026 (arXiv 2606.13668): a Sentence Transformers bi-encoder with cosine similarity. A
step takes a block of 8 queries x 16 pool texts, S the student's cosines and T the teacher's, and minimises

    α (1 - Pearson(S, T)) + (1 - α) mean_q KL(softmax(T_q / τ) ‖ softmax(S_q / τ)),   α = 0.5, τ = 0.05

with AdamW (5e-5, weight decay 0.01), clipping at 1, linear warm-up over 10 % and decay to zero, 8 epochs. An
epoch is as many steps as it takes to show every query and every pool text once. The paper kept the best
epoch by its evaluation split; here that choice is made on a validation split or not at all.

Texts of a block go through the backbone a few at a time by length, and in bfloat16 where the processor has it:
the same gradient, with less padding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from influcoder.data.examples import Example, plain_text
from influcoder.maths.arrays import Floats
from influcoder.model.precision import use_bf16
from influcoder.provenance import Provenance, StudentRecord
from influcoder.student.backbone import unit_embeddings
from influcoder.student.encoder import QUERY_PROMPT, InfluenceEncoder

TEXTS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class PaperRecipe:
    """The recipe's numbers, the paper's by default."""

    queries: int = 8
    pool: int = 16
    alpha: float = 0.5
    temperature: float = 0.05
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    clip: float = 1.0
    warm_up: float = 0.1
    epochs: int = 8
    seed: int = 0


def block_loss(student: Tensor, teacher: Tensor, alpha: float, temperature: float) -> Tensor:
    """The loss of a (queries, pool) block of cosines (the paper, section "distillation").

    >>> import torch
    >>> block = torch.tensor([[0.1, 0.9], [0.5, 0.2]])
    >>> bool(block_loss(block, block, 0.5, 0.05) < 1e-5)
    True
    """
    flat_student = student.flatten() - student.mean()
    flat_teacher = teacher.flatten() - teacher.mean()
    pearson = functional.cosine_similarity(flat_student, flat_teacher, dim=0, eps=1e-8)
    divergence = functional.kl_div(
        functional.log_softmax(student / temperature, dim=1),
        functional.log_softmax(teacher / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return alpha * (1 - pearson) + (1 - alpha) * divergence


def distill_paper(
    backbone: Any,
    queries: Sequence[Example],
    pool: Sequence[Example],
    influence: Floats,
    recipe: PaperRecipe | None = None,
    *,
    advance: Callable[[int], None] | None = None,
    provenance: Provenance | None = None,
) -> InfluenceEncoder:
    """Train a Sentence Transformers `backbone`, in place, to the (n_queries, n_pool) influences.

    Args:
        advance: called with 1 after every step, for a progress bar of `steps(...)` steps.

    >>> from influcoder import FeaturesFolder
    >>> features = FeaturesFolder("features")
    >>> sample, recipe = features.sample, PaperRecipe(epochs=1)
    >>> distill_paper(features.backbone, sample.queries, sample.pool, sample.influence, recipe).tier
    'transformer'
    """
    recipe = recipe or PaperRecipe()
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    teacher = torch.from_numpy(np.asarray(influence, np.float32))
    query_texts = [QUERY_PROMPT + plain_text(example) for example in queries]
    pool_texts = [plain_text(example) for example in pool]
    total = steps(len(queries), len(pool), recipe)
    optimizer = torch.optim.AdamW(backbone.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share(step, total, recipe.warm_up))
    bf16 = use_bf16("auto", torch.device(backbone.device))
    backbone.train()
    for rows, columns in _blocks(len(queries), len(pool), recipe, rng):
        with torch.autocast(backbone.device.type, torch.bfloat16, enabled=bf16):
            student = _embed(backbone, [query_texts[i] for i in rows])
            student = student @ _embed(backbone, [pool_texts[i] for i in columns]).T
        loss = block_loss(student, teacher[rows][:, columns], recipe.alpha, recipe.temperature)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(backbone.parameters(), recipe.clip)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if advance:
            advance(1)
    backbone.eval()
    made_by = replace(provenance or Provenance(), student=StudentRecord("paper", recipe.seed))
    return InfluenceEncoder(backbone, None, provenance=made_by)


def steps(queries: int, pool: int, recipe: PaperRecipe) -> int:
    """How many steps the recipe takes on so many queries and pool texts."""
    return recipe.epochs * max(-(-queries // recipe.queries), -(-pool // recipe.pool))


def _blocks(queries: int, pool: int, recipe: PaperRecipe, rng: np.random.Generator) -> Any:
    """Blocks of indices: in every epoch each side is shuffled, and reshuffled when it is used up."""
    for _ in range(recipe.epochs):
        orders = [rng.permutation(queries), rng.permutation(pool)]
        for _ in range(steps(queries, pool, recipe) // recipe.epochs):
            block = []
            for side, (count, size) in enumerate(((queries, recipe.queries), (pool, recipe.pool))):
                if len(orders[side]) == 0:
                    orders[side] = rng.permutation(count)
                block.append(orders[side][:size])
                orders[side] = orders[side][size:]
            yield block


def _embed(backbone: Any, texts: list[str]) -> Tensor:
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    parts = [
        unit_embeddings(backbone, [texts[i] for i in order[start : start + TEXTS_AT_ONCE]])
        for start in range(0, len(order), TEXTS_AT_ONCE)
    ]
    return torch.cat(parts)[np.argsort(order)]


def _share(step: int, total: int, warm_up: float) -> float:
    """The share of the learning rate at a step: a linear warm-up, then a linear decay to zero."""
    rising = max(1, round(warm_up * total))
    return (step + 1) / rising if step < rising else max(0.0, (total - step) / max(1, total - rising))
