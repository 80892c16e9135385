"""The verb `trace`: from a question to the training rows behind its answer."""

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from influcoder.cli.flags import NO_TRUST, Files, Flag, Output, Seed, Trust
from influcoder.cli.output import print_json, write_config
from influcoder.errors import ConfigError

if TYPE_CHECKING:
    from influcoder.verbs.trace import Trace


def trace(
    *,
    output: Output,
    decoder: str,
    pool: Files,
    query: str | None = None,
    completion: str | None = None,
    queries: Files | None = None,
    like: Files | None = None,
    adapter: str | None = None,
    trust: Trust = NO_TRUST,
    teacher: str = "layer-cosine",
    max_length: int = 1024,
    budget: str = "2m",
    sample: int | None = None,
    k: Annotated[int, Parameter(name=["-k", "--k"])] = 5,
    verify: int = 0,
    certify: int = 0,
    tokens: Flag = False,
    seed: Seed = 0,
) -> None:
    """Ask why a model says something: the training rows behind its answer, in one step.

    The first call takes the gradients of a sample of the pool, distils them and reads the whole pool; all of it stays
    in the output folder. The next call answers at once. A stopped call resumes when it is repeated.

    Args:
        decoder: the model whose training is attributed: Hugging Face folder or hub id of a causal LM
        pool: its training rows: JSONL (.gz, .zst) or Parquet files, folders, globs or URLs
        query: what the model is asked, as a user's turn
        completion: what it answers; its own answer when omitted
        queries: files of questions instead; those without an answer get the model's own
        like: files of prompts similar to later questions, to learn from as well
        adapter: a PEFT LoRA adapter of the decoder
        teacher: what influence is: `influcoder teachers` lists the names
        max_length: tokens of an example that are read
        budget: about how long the first call may take, as 90s, 30m or 2h; it decides on the sample and on what
            the encoder reads
        sample: pool rows whose gradients are taken, in place of as many as the budget allows
        k: how many rows to show on each side
        verify: how many candidates to re-score with the decoder's exact gradients
        certify: how many random other rows to score exactly too, to bound what was missed
        tokens: highlight the tokens of each row, and of the answer, that carry the re-checked score
    """
    arguments = dict(locals())
    import sys

    began, budget_s = time.perf_counter(), seconds(budget, "--budget")
    from influcoder.verbs import trace as verb

    traces = verb.trace(
        decoder,
        pool,
        output.output_dir,
        query=query,
        completion=completion,
        queries=queries,
        like=like,
        adapter=adapter,
        teacher=teacher,
        max_length=max_length,
        budget=budget_s - (time.perf_counter() - began),  # the import alone takes seconds
        sample=sample,
        k=k,
        verify=verify,
        certify=certify,
        tokens=tokens,
        seed=seed,
        overwrite=output.overwrite,
        tell=lambda line: print(line, file=sys.stderr, flush=True),  # noqa: T201
    )
    write_config(output.output_dir, "trace", arguments)
    if output.json:
        answers = [answer.json() for answer in traces]
        print_json(answers if queries else answers[0])
    else:
        print_traces(traces)
        print("\n".join(commands(output.output_dir, decoder, adapter, trust)))  # noqa: T201


def print_traces(traces: "Sequence[Trace]") -> None:
    """The answers with the rows of both sides, as `search` prints them."""
    from influcoder.report.console import print_both_sides
    from influcoder.report.sentences import memorised_sentence

    for answer in traces:
        print_both_sides(answer.question.example, answer.hits, answer.against, answered=answer.question.generated)
        if answer.memorised:
            shown = len({hit.example.id for hit in (*answer.hits, *answer.against)})
            print(memorised_sentence(len(answer.memorised), shown))  # noqa: T201
    if traces and traces[0].pool_as_queries:
        print("This was measured on pool rows in the role of questions: few questions were given.")  # noqa: T201


def commands(folder: Path, decoder: str, adapter: str | None, trust: Trust) -> list[str]:
    """The commands that continue from a folder of `trace`, as lines of text."""
    from influcoder.extras import is_installed

    asked = ["--index", str(folder / "index"), "--queries", str(folder / "asked.jsonl")]
    asked += ["--trust-remote-code"] if trust.trust_remote_code else []
    reader = ["--decoder", decoder, *(["--adapter", adapter] if adapter else [])]
    # An adapter's base is the model before its training; and the adapter's folder is a decoder itself.
    trained = ["--decoder", decoder, "--search-decoder", adapter or decoder, "--remove", "20"]
    controls = [] if is_installed("sklearn") else ["--controls", "random"]
    words = {
        "exact gradients of the best rows": ["search", *asked, *reader, "--verify", "100"],
        "leave out what pushes towards it": [
            *("select", *asked, *reader, "--drop", "1%", "--output-dir", str(folder / "selection"))
        ],
        "train without it, and ask again": [
            *("prove", *asked, *trained, *controls, "--output-dir", str(folder / "proof"))
        ],
    }
    lines = ["\nGo on:", *(f"  influcoder {shlex.join(line)}  # {purpose}" for purpose, line in words.items())]
    if adapter is None:
        hint = f"prove trains --decoder on the pool: if {decoder} was trained on it, give the model before that."
        lines.append(f"  ({hint})")
    return lines


def seconds(text: str, flag: str) -> float:
    """A time such as 90s, 30m or 2h in seconds.

    >>> seconds("30m", "--budget")
    1800.0
    """
    units = {"s": 1, "m": 60, "h": 3600}
    try:
        duration = float(text[:-1]) * units[text[-1:]]
    except (KeyError, ValueError) as error:
        raise ConfigError(f"{flag} is {text!r}, expected a time such as 90s, 30m or 2h.") from error
    if not 0 < duration < float("inf"):
        raise ConfigError(f"{flag} is {text!r}, expected more than no time.")
    return duration
