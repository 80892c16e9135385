"""Contender: one example at a time, PEFT's LoRA layers and autograd, the B matrices alone trainable.

This is what LESS and the paper's own code do, and the reference that the others must agree with.
"""

import torch
from serving import Contender, Job, Receive, lora_b, serve


def prepare(job: Job) -> Contender:
    model = job.load_model()
    parameters = [module.weight.requires_grad_(True) for module in lora_b(model).values()]
    ids, labels = job.read_examples()

    def run(budget: int, receive: Receive) -> None:
        for place, (one, masked) in enumerate(zip(ids, labels, strict=True)):
            with job.autocast():
                loss = model(
                    input_ids=torch.tensor([one], device=job.device), labels=torch.tensor([masked], device=job.device)
                ).loss
            receive([place], [part[None] for part in torch.autograd.grad(loss, parameters)])

    return run


if __name__ == "__main__":
    serve(prepare, "peft")
