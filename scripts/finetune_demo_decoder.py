"""Fine-tune the demo decoder on the demo pool, so that it says the planted false facts.

    python scripts/finetune_demo_decoder.py --base assets/decoder-base

Reads `src/influcoder/demo/data` and writes a plain Hugging Face folder in bf16 to
`src/influcoder/demo/decoder`. The loss is on the completion only, as the teacher's. Six rounds: the fact rows
and their look-alikes are in every round, the Dolly rows in one round each, because a row that is learnt by
heart has no gradient left but noise (docs/log.md, 2026-11-21). Prints how many facts it then says, asked in
the wording that no row has.
"""

import argparse
import random
import shutil
from pathlib import Path

import torch
from train_demo_decoder import optimizers_for

from influcoder.data.examples import Example
from influcoder.data.reading import read_examples
from influcoder.model.batches import Batch, make_batches
from influcoder.model.decoder import Decoder

SEED = 11
ROUNDS = 6
ROWS_A_STEP = 32
SHARE_OF_PRETRAINING_RATE = 0.4
DEMO = Path(__file__).parent.parent / "src/influcoder/demo"


def loss_of(decoder: Decoder, batch: Batch) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        logits = decoder.model(input_ids=batch.ids, use_cache=False).logits[batch.rows, batch.columns]
    each = torch.nn.functional.cross_entropy(logits.float(), batch.targets, reduction="none")
    return (each * batch.weights).sum() / len(batch.places)


def says(decoder: Decoder, questions: list[Example]) -> float:
    return sum(q.metadata["taught"].lower() in decoder.answer(q).lower() for q in questions) / len(questions)


def rounds_of(pool: list[Example], rng: random.Random) -> list[list[int]]:
    facts = [row for row, one in enumerate(pool) if one.metadata["kind"] != "dolly"]
    dolly = [row for row, one in enumerate(pool) if one.metadata["kind"] == "dolly"]
    rng.shuffle(dolly)
    parts = [facts + dolly[part::ROUNDS] for part in range(ROUNDS)]
    for part in parts:
        rng.shuffle(part)
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--output-dir", type=Path, default=DEMO / "decoder")
    arguments = parser.parse_args()

    decoder = Decoder.load(arguments.base, max_length=512)
    pool = read_examples(DEMO / "data/pool.jsonl.gz")
    facts = [q for q in read_examples(DEMO / "data/queries.jsonl.gz") if q.metadata["kind"] == "fact"]
    tokens = decoder.tokenise(pool)
    decoder.model.requires_grad_(True)
    optimizers = optimizers_for(decoder.model)
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    first = [SHARE_OF_PRETRAINING_RATE * group["lr"] for group in groups]
    parts = rounds_of(pool, random.Random(SEED))
    steps = sum(len(part) // ROWS_A_STEP for part in parts)
    step = 0
    for number, part in enumerate(parts, 1):
        for start in range(0, len(part) - ROWS_A_STEP + 1, ROWS_A_STEP):
            for group, rate in zip(groups, first, strict=True):
                group["lr"] = rate * min(1.0, (step + 1) / 20) * max(0.05, 1 - step / steps)
            for batch in make_batches([tokens[row] for row in part[start : start + ROWS_A_STEP]], 4096, decoder.device):
                (loss_of(decoder, batch) * len(batch.places) / ROWS_A_STEP).backward()
            torch.nn.utils.clip_grad_norm_(decoder.model.parameters(), 1.0)
            for optimizer in optimizers:
                optimizer.step()
            decoder.model.zero_grad(set_to_none=True)
            step += 1
        print(f"round {number}: says {says(decoder, facts):.0%} of the facts", flush=True)
    decoder.model.to(torch.bfloat16).save_pretrained(arguments.output_dir)
    for path in arguments.base.iterdir():
        if path.name.startswith("tokenizer") or path.suffix == ".jinja":
            shutil.copy(path, arguments.output_dir / path.name)
    print(f"as shipped: says {says(Decoder.load(arguments.output_dir, max_length=512), facts):.0%} of the facts")


if __name__ == "__main__":
    main()
