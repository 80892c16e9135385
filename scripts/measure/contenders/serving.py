"""What the contenders' processes share: the job, the model under its adapter, and the orders they obey.

A process loads its model, says so, and then obeys one JSON order a line, each answered by one JSON line:

    {"do": "check", "budget": 1024, "path": "gram.safetensors"}   all gradients, and their Gram matrix in a file
    {"do": "pass", "budget": 1024}                                all gradients, dropped batch by batch: seconds

Nothing here imports influcoder, so that it runs in the peers' environment too.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

IGNORED = -100
COLUMNS_AT_ONCE = 2**16

Receive = Callable[[list[int], list[Tensor]], None]
"""Takes the places of a batch's examples and their gradients, (n, ·) pieces that together are the rows."""

Contender = Callable[[int, Receive], None]
"""Gives every example's gradient, in batches of a number of padded tokens."""


@dataclass(frozen=True)
class Job:
    """What a contender is asked for.

    Attributes:
        model: Hugging Face folder.
        examples: JSON: `ids`, and `starts`, where each example's loss begins.
        matrices: safetensors: the A matrix (rank, inputs) of each linear layer, by name.
        scale: LoRA's alpha / rank.
        precision: "float32" or "bf16".
        scratch: folder for what a peer insists on writing.
    """

    model: str
    examples: str
    matrices: str
    scale: float
    precision: str
    device: str
    threads: int
    scratch: str

    def read_examples(self) -> tuple[list[list[int]], list[list[int]]]:
        """Token ids and labels of each example; no label where there is no loss."""
        rows = json.loads(Path(self.examples).read_text())
        masked = [[IGNORED] * start + ids[start:] for ids, start in zip(rows["ids"], rows["starts"], strict=True)]
        return rows["ids"], masked

    def read_matrices(self) -> dict[str, Tensor]:
        return load_file(self.matrices, device=self.device)

    def load_model(self, *, attention: str = "sdpa", dtype: torch.dtype = torch.float32) -> PeftModel:
        """The model under the fresh adapter, wholly frozen."""
        base = AutoModelForCausalLM.from_pretrained(self.model, dtype=dtype, attn_implementation=attention)
        matrices = self.read_matrices()
        rank = len(next(iter(matrices.values())))
        config = LoraConfig(r=rank, lora_alpha=self.scale * rank, target_modules=list(matrices))
        model = get_peft_model(base.to(self.device), config, autocast_adapter_dtype=False).eval()
        with torch.no_grad():
            for name, a in matrices.items():
                layer = model.base_model.model.get_submodule(name)
                layer.lora_A["default"].weight.copy_(a)
                layer.lora_B["default"].weight.zero_()
        return model.requires_grad_(False)

    def autocast(self) -> torch.autocast:
        return torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.precision == "bf16")


def lora_b(model: PeftModel) -> dict[str, nn.Module]:
    """The adapter's B layers, by name."""
    return {name: module for name, module in model.named_modules() if name.endswith("lora_B.default")}


def batches_of(lengths: list[int], budget: int) -> Iterator[list[int]]:
    """Places in batches of alike lengths, longest first, of at most `budget` padded tokens."""
    order = sorted(range(len(lengths)), key=lambda place: (-lengths[place], place))
    while order:
        count = max(1, budget // lengths[order[0]])
        yield order[:count]
        order = order[count:]


def padded(rows: list[list[int]], filler: int, device: str) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [filler] * (longest - len(row)) for row in rows], device=device)


def completion_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """The (n,) mean cross-entropies over each example's labelled tokens."""
    targets = labels[:, 1:]
    each = nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return each.view(targets.shape).sum(1) / (targets != IGNORED).sum(1)


def serve(prepare: Callable[[Job], Contender], *packages: str) -> None:
    """Load, then obey orders until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not look like an answer
    job = Job(**json.loads(Path(sys.argv[1]).read_text()))
    torch.set_num_threads(job.threads)
    contender = prepare(job)

    def say(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    say({"versions": {name: version(name) for name in ("torch", "transformers", *packages)}})
    for line in sys.stdin:
        order = json.loads(line)
        try:
            if order["do"] == "check":
                save_file({"gram": _gram(contender, order["budget"])}, order["path"])
                say({})
            else:
                say(_timed(contender, order["budget"], job.device))
        except (RuntimeError, MemoryError) as error:  # out of memory, which another budget may not be
            say({"error": str(error).splitlines()[0]})


def _timed(contender: Contender, budget: int, device: str) -> dict[str, Any]:
    cuda = torch.device(device).type == "cuda"
    if cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    contender(budget, lambda places, pieces: None)
    if cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    device_mb = torch.cuda.max_memory_allocated() / 2**20 if cuda else None
    return {"seconds": seconds, "peak_memory_mb": _peak_mb(), "peak_device_memory_mb": device_mb}


def _peak_mb() -> float:
    # ru_maxrss counts what the process was forked from; the kernel's own mark begins with the program.
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _gram(contender: Contender, budget: int) -> Tensor:
    rows: dict[int, Tensor] = {}

    def receive(places: list[int], pieces: list[Tensor]) -> None:
        whole = torch.cat([piece.flatten(1) for piece in pieces], dim=1).float().cpu()
        rows.update(zip(places, whole, strict=True))

    contender(budget, receive)
    if sorted(rows) != list(range(len(rows))):
        raise ValueError("a contender must give each example's gradient once")
    matrix = torch.stack([rows[place] for place in range(len(rows))])
    gram = torch.zeros(len(matrix), len(matrix), dtype=torch.float64)
    for columns in matrix.split(COLUMNS_AT_ONCE, dim=1):
        gram.addmm_(columns.double(), columns.double().T)
    return gram
