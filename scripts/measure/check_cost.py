"""What the checks before a job cost: seconds for the demo's decoder, and gradients for models of several sizes.

    python scripts/measure/check_cost.py

The price of a gradient is what the job pays for it: the features of 8 other rows, over 8.
"""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import influcoder
from influcoder.data.examples import Example
from influcoder.data.reading import read_examples
from influcoder.demo.world import assets
from influcoder.model.decoder import Decoder
from influcoder.teachers.check import check_teacher
from influcoder.teachers.make import make_teacher
from influcoder.teachers.settings import TeacherSettings

POOL = Path(influcoder.__file__).parent / "demo" / "data" / "pool.jsonl.gz"
SIZES = ((128, 4, 64), (256, 4, 128), (512, 6, 256))
"""hidden size, layers, tokens of a row"""


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def of_sizes(width: int, layers: int, tokens: int, demo: Decoder, precision: str) -> dict[str, Any]:
    config = LlamaConfig(
        vocab_size=len(demo.tokenizer),
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
    )
    torch.manual_seed(0)
    decoder = Decoder(LlamaForCausalLM(config), demo.tokenizer, name="random", max_length=tokens)
    rows = [Example(f"r{n}", f"What is {n}?", "two plus two is four, and " * tokens) for n in range(16)]
    settings = TeacherSettings(precision=precision)
    check = seconds(lambda: check_teacher(decoder, rows[:2], rows[2:8], settings, reliable=False))
    teacher = make_teacher(decoder, settings)
    gradient = seconds(lambda: teacher.features(rows[8:], "pool")) / 8
    return {"check_s": round(check, 2), "gradient_s": round(gradient, 3), "gradients": round(check / gradient, 1)}


def main() -> None:
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    demo: list[Decoder] = []
    found: dict[str, Any] = {
        "load_s": round(seconds(lambda: demo.append(Decoder.load(assets() / "decoder", device="cpu"))), 2)
    }
    (decoder,) = demo
    rows = read_examples(POOL)
    found["rows_s"] = round(seconds(lambda: [decoder.prepare(row) for row in rows]), 2)
    for precision in ("fp32", "bf16"):
        settings = TeacherSettings(precision=precision)
        check = seconds(lambda s=settings: check_teacher(decoder, rows[:16], rows, s, reliable=False))  # type: ignore[misc]
        print(json.dumps(found | {"precision": precision, "demo_s": round(check, 2)}), flush=True)
        for width, layers, tokens in SIZES:
            size = {"width": width, "layers": layers, "tokens": tokens, "precision": precision}
            print(json.dumps(size | of_sizes(width, layers, tokens, decoder, precision)), flush=True)


if __name__ == "__main__":
    main()
