"""Contender: dattri's block-projected attributor on the LoRA-B layers, its two compressors the identity.

That is the engine of its LoGra and FactGraSS, asked for the whole gradient of the layers. It multiplies by the
batch size, so the loss is the mean over the batch of the examples' mean losses.
"""

import os

os.environ["TORCHDYNAMO_DISABLE"] = "1"  # the compressor's torch.compile wants a C++ compiler

from typing import Any

import torch
from dattri.algorithm import BlockProjectedIFAttributor
from dattri.task import AttributionTask
from serving import IGNORED, Contender, Job, Receive, batches_of, completion_losses, lora_b, padded, serve
from torch import Tensor, nn
from torch.utils.data import DataLoader

IDENTITY = {"proj_dim": -1, "proj_max_batch_size": 64, "proj_type": "identity"}


class HandingOn:
    """Hands a batch's gradients on where dattri's offload managers would keep them."""

    def __init__(self, batches: list[list[int]], receive: Receive) -> None:
        self.batches = batches
        self.receive = receive

    def store_gradients(self, batch_idx: int, gradients: list[Tensor], is_test: bool = False) -> None:
        self.receive(self.batches[batch_idx], gradients)


def prepare(job: Job) -> Contender:
    model = job.load_model()
    layers = lora_b(model)
    for module in layers.values():
        module.requires_grad_(True)
    ids, labels = job.read_examples()
    lengths = list(map(len, ids))

    def loss(model: nn.Module, batch: dict[str, Tensor], device: str) -> Tensor:
        logits = model(input_ids=batch["input_ids"].to(device), use_cache=False).logits
        return completion_losses(logits, batch["labels"].to(device)).mean()

    attributor = BlockProjectedIFAttributor(
        AttributionTask(loss_func=loss, model=model, checkpoints=model.state_dict()),
        layer_names=list(layers),
        hessian="Identity",
        device=job.device,
        sparsifier_kwargs=IDENTITY | {"device": job.device},
        projector_kwargs=IDENTITY | {"device": job.device},
        offload="none",
        cache_dir=job.scratch,
    )

    def collate(batches: list[list[int]]) -> dict[str, Any]:
        return {
            "input_ids": padded([ids[place] for place in batches[0]], 0, "cpu"),
            "labels": padded([labels[place] for place in batches[0]], IGNORED, "cpu"),
        }

    def run(budget: int, receive: Receive) -> None:
        batches = list(batches_of(lengths, budget))
        attributor.offload_manager = HandingOn(batches, receive)
        with torch.enable_grad():
            attributor.cache(DataLoader(batches, batch_size=1, collate_fn=collate))  # type: ignore[arg-type]

    return run


if __name__ == "__main__":
    serve(prepare, "peft", "dattri")
