"""The verb `drift`: does an encoder still agree with the teacher of a decoder that was trained further?"""

import sys
from pathlib import Path

from influcoder.cli.flags import NO_TRUST, Files, Flag, Seed, Trust, share
from influcoder.cli.output import print_json


def drift(
    *,
    encoder: str,
    decoder: str,
    queries: Files,
    pool: Files,
    adapter: str | None = None,
    trust: Trust = NO_TRUST,
    index: Path | None = None,
    tolerance: str = "25%",
    budget: int = 240,
    seed: Seed = 0,
    json: Flag = False,
) -> None:
    """Check with few gradients whether an encoder still agrees with the teacher of a decoder that was trained further.

    Exit status 3: stale; 0: fine, or undecided within the budget. The verdict is "stale" with probability 5 % at most
    if nothing was lost, and "fine" with 5 % at most if the tolerance or more was lost.

    Args:
        encoder: what `influcoder distill` wrote, or its hub id
        decoder: the later state of the decoder it was distilled from: a Hugging Face folder or hub id
        queries: files of queries like those it was distilled from; those it has seen are left out
        pool: the same for training examples
        adapter: a PEFT LoRA adapter of the decoder
        index: made by this encoder: keeps the result, and `influcoder search` shows it
        tolerance: the share of the agreement at distillation time that may be lost, as 25% or 0.25
        budget: gradients at most; the probe stops as soon as it can decide
        json: print the numbers as JSON
    """
    from influcoder.report.console import print_drift
    from influcoder.verbs import drift as verb

    check = verb.drift(
        encoder,
        decoder,
        queries,
        pool,
        adapter=adapter,
        index=index,
        tolerance=share(tolerance, "--tolerance") or 0.0,
        budget=budget,
        seed=seed,
    )
    if json:
        print_json(check)
    else:
        print_drift(check)
    if check["verdict"] == "stale":
        sys.exit(verb.STALE)
