"""Fine-tune the demo decoder on the demo pool, so that it says the planted false facts.

    python scripts/finetune_demo_decoder.py --base runs/decoder-base

Reads `src/influcoder/demo/data`, trains on every pool row equally often (loss on the completion only, as
the teacher's), and writes a plain Hugging Face folder in bf16 to `src/influcoder/demo/decoder`. Prints how
many of the 60 facts it then says, asked in the wording that no row has.
"""

import argparse
import random
import shutil
from pathlib import Path

import numpy as np
import torch

from influcoder.decoder import Decoder
from influcoder.examples import Example
from influcoder.gradients import Batch, make_batches
from influcoder.reading import read_examples

SEED = 11
DEMO = Path(__file__).parent.parent / "src/influcoder/demo"


def loss_of(decoder: Decoder, batch: Batch) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        logits = decoder.model(input_ids=batch.ids, use_cache=False).logits[batch.rows, batch.columns]
    each = torch.nn.functional.cross_entropy(logits.float(), batch.targets, reduction="none")
    return (each * batch.weights).sum() / len(batch.places)


@torch.no_grad()
def mean_loss(decoder: Decoder, examples: list[Example]) -> float:
    tokens = decoder.tokenise(examples)
    batches = list(make_batches(tokens, 4096, decoder.device))
    return sum(loss_of(decoder, b).item() * len(b.places) for b in batches) / sum(len(b.places) for b in batches)


def says(decoder: Decoder, questions: list[Example]) -> float:
    return sum(q.metadata["taught"].lower() in decoder.answer(q).lower() for q in questions) / len(questions)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--output-dir", type=Path, default=DEMO / "decoder")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--rows", type=int, default=32, help="rows a step")
    arguments = parser.parse_args()

    decoder = Decoder.load(arguments.base, max_length=512)
    decoder.model.requires_grad_(True)
    pool = read_examples(DEMO / "data/pool.jsonl.gz")
    queries = read_examples(DEMO / "data/queries.jsonl.gz")
    facts = [q for q in queries if q.metadata["kind"] == "fact"]
    tasks = [q for q in queries if q.metadata["kind"] == "task"][:200]
    tokens = decoder.tokenise(pool)
    optimizer = torch.optim.AdamW(
        decoder.model.parameters(), lr=arguments.learning_rate, betas=(0.9, 0.95), weight_decay=0.01
    )
    rng = random.Random(SEED)
    steps = arguments.epochs * (len(pool) // arguments.rows)
    step = 0
    print(
        f"before: pool loss {mean_loss(decoder, pool[:400]):.3f}, BBH loss {mean_loss(decoder, tasks):.3f}", flush=True
    )
    for epoch in range(arguments.epochs):
        order = list(range(len(pool)))
        rng.shuffle(order)
        losses = []
        for start in range(0, len(order) - arguments.rows + 1, arguments.rows):
            chosen = [tokens[i] for i in order[start : start + arguments.rows]]
            for group in optimizer.param_groups:
                group["lr"] = arguments.learning_rate * min(1.0, (step + 1) / 50) * (1 - step / steps)
            for batch in make_batches(chosen, 4096, decoder.device):
                loss = loss_of(decoder, batch) * len(batch.places) / arguments.rows
                loss.backward()
                losses.append(loss.item())
            torch.nn.utils.clip_grad_norm_(decoder.model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
        print(
            f"epoch {epoch + 1}: loss {np.sum(losses) / (len(order) // arguments.rows):.3f}, "
            f"says {says(decoder, facts):.0%} of the facts",
            flush=True,
        )
    decoder.model.to(torch.bfloat16).save_pretrained(arguments.output_dir)
    for path in arguments.base.iterdir():
        if path.name.startswith("tokenizer") or path.suffix == ".jinja":
            shutil.copy(path, arguments.output_dir / path.name)
    decoder = Decoder.load(arguments.output_dir, max_length=512)
    print(f"after: pool loss {mean_loss(decoder, pool[:400]):.3f}, BBH loss {mean_loss(decoder, tasks):.3f}")
    print(f"as shipped: says {says(decoder, facts):.0%} of the facts")


if __name__ == "__main__":
    main()
