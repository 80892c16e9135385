"""Contender: bergson's collector on the LoRA-B layers, without projection, batched by its own packer.

Set up as `bergson build` does, all frozen but the input embeddings, and with two changes in its favour: the
head is untied, so that no gradient of its weight is formed, and gradients are dropped instead of written.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from bergson import CollectorComputer, GradientCollector, GradientProcessor, IndexConfig
from bergson.data import allocate_batches
from datasets import Dataset
from serving import Contender, Job, Receive, lora_b, serve


class Dropping(GradientCollector):
    """Hands a batch's gradients on where bergson would write them to its index."""

    receive: Callable[[list[int], list[torch.Tensor]], None]

    def process_batch(self, indices: list[int], **kwargs: Any) -> None:
        self.receive(indices, list(self.mod_grads.values()))
        self.mod_grads.clear()

    def teardown(self) -> None:
        pass


def prepare(job: Job) -> Contender:
    bf16 = job.precision == "bf16"
    model = job.load_model(dtype=torch.bfloat16 if bf16 else torch.float32)
    head, table = model.get_output_embeddings(), model.get_input_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    table.requires_grad_(True)
    targets = {name.removeprefix("base_model.") for name in lora_b(model)}
    config = IndexConfig(
        run_path=str(Path(job.scratch) / "index"), loss_reduction="mean", precision="bf16" if bf16 else "fp32"
    )
    config.partial_run_path.mkdir(parents=True, exist_ok=True)
    ids, labels = job.read_examples()
    data = Dataset.from_dict({"input_ids": ids, "labels": labels, "length": list(map(len, ids))})

    def run(budget: int, receive: Receive) -> None:
        collector = Dropping(
            model=model.base_model,
            data=data,
            cfg=config,
            processor=GradientProcessor(projection_dim=None),
            target_modules=targets,
            skip_index=True,
        )
        collector.receive = receive
        batches = allocate_batches(data["length"][:], budget)
        CollectorComputer(model, data, collector=collector, batches=batches, cfg=config).run_with_collector_hooks()

    return run


if __name__ == "__main__":
    serve(prepare, "peft", "bergson")
