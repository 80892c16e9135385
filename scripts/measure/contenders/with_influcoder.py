"""Contender: this project."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from serving import Contender, Job, Receive, serve
from torch import Tensor

from influcoder.model.batches import Tokens, make_batches
from influcoder.model.decoder import Decoder
from influcoder.model.gradients import LayerGradients
from influcoder.model.layers import lora_b


def prepare(job: Job) -> Contender:
    decoder = Decoder.load(job.model, dtype="fp32", device=job.device)
    matrices = job.read_matrices()
    rank = len(next(iter(matrices.values())))
    views = lora_b(decoder, rank=rank, seed=0, alpha=job.scale * rank)
    views = [replace(view, right=matrices[view.name]) for view in views]
    gradients = LayerGradients(decoder, views, bf16=job.precision == "bf16")
    rows = json.loads(Path(job.examples).read_text())
    tokens = [Tokens(np.asarray(ids), start) for ids, start in zip(rows["ids"], rows["starts"], strict=True)]

    def run(budget: int, receive: Receive) -> None:
        for batch in make_batches(tokens, budget, torch.device(job.device)):
            pieces: dict[int, Tensor] = {}
            gradients.run(batch, pieces.__setitem__)
            receive(batch.places, [pieces[number] for number in range(len(views))])

    return run


if __name__ == "__main__":
    serve(prepare, "influcoder")
