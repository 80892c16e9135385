"""What the checks before a job cost: seconds for the demo's decoder, and gradients for models of several sizes.

    python scripts/measure/check_cost.py

A check's price is what it adds to a job: the features of 8 rows with the check before them, less the same without,
each by a model that nothing was asked of before. The price of a gradient is an eighth of the job without. Medians of
five alternated runs.
"""

import json
import logging
import statistics
import time
from collections.abc import Callable
from functools import partial
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
RUNS = 5


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
    model = LlamaForCausalLM(config)
    rows = [Example(f"r{n}", f"What is {n}?", "two plus two is four, and " * tokens) for n in range(16)]
    settings = TeacherSettings(precision=precision)

    def job(checked: bool) -> None:
        decoder = Decoder(model, demo.tokenizer, name="random", max_length=tokens)
        if checked:
            check_teacher(decoder, rows[:2], rows[2:8], settings, reliable=False)
        make_teacher(decoder, settings).features(rows[8:], "pool")

    runs = [(seconds(partial(job, True)), seconds(partial(job, False))) for _ in range(RUNS)]
    checked, plain = (statistics.median(times) for times in zip(*runs, strict=True))
    check, gradient = checked - plain, plain / 8
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
