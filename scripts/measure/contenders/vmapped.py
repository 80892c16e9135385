"""Contender: torch.func's vmap(grad) over the LoRA-B parameters, with eager attention, which vmap can follow."""

import torch
from serving import IGNORED, Contender, Job, Receive, batches_of, completion_losses, lora_b, padded, serve
from torch import Tensor
from torch.func import functional_call, grad, vmap


def prepare(job: Job) -> Contender:
    model = job.load_model(attention="eager")
    parameters = {f"{name}.weight": module.weight.detach() for name, module in lora_b(model).items()}
    ids, labels = job.read_examples()
    lengths = list(map(len, ids))

    def loss(parameters: dict[str, Tensor], ids: Tensor, labels: Tensor) -> Tensor:
        output = functional_call(model, parameters, (), {"input_ids": ids[None], "use_cache": False})
        return completion_losses(output.logits, labels[None])[0]

    of_each = vmap(grad(loss), in_dims=(None, 0, 0))

    def run(budget: int, receive: Receive) -> None:
        for places in batches_of(lengths, budget):
            batch = padded([ids[place] for place in places], 0, job.device)
            masked = padded([labels[place] for place in places], IGNORED, job.device)
            with torch.no_grad():  # vmap(grad) builds its own graph
                receive(places, list(of_each(parameters, batch, masked).values()))

    return run


if __name__ == "__main__":
    serve(prepare, "peft")
