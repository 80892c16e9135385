"""The verb `trace`: from a question to the training rows behind its answer."""

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from influcoder.cli.flags import NO_TRUST, Files, Output, Seed, Trust
from influcoder.cli.output import print_json, write_config
from influcoder.errors import ConfigError

if TYPE_CHECKING:
    from influcoder.attribution.search import Hits
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
    seed: Seed = 0,
) -> None:
    """Ask why a model says something: the training rows behind its answer, in one step.

    The first call takes the gradients of a sample of the pool, distils them and reads the whole pool; all of it stays
    in the output folder. The next call asks at once. A call that was stopped goes on where it was.

    Args:
        decoder: the model whose training is attributed: Hugging Face folder or hub id of a causal LM
        pool: its training rows: JSONL (.gz, .zst) or Parquet files, folders, globs or URLs
        query: what the model is asked, as a user's turn
        completion: what it says; its own answer when omitted
        queries: files of questions instead; those without an answer get the model's own
        like: files of prompts similar to those that will be asked, to learn from as well
        adapter: a PEFT LoRA adapter of the decoder
        teacher: what influence is: `influcoder teachers` lists the names
        max_length: tokens of an example that are read
        budget: how long the first call may take, about, as 90s, 30m or 2h; it decides on sample and tier
        sample: pool rows whose gradients are taken, in place of as many as the budget allows
        k: how many rows to show on each side
        verify: how many candidates the decoder's real gradients re-score
    """
    arguments = dict(locals())
    import sys

    from influcoder.verbs import trace as verb

    found = verb.trace(
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
        budget=seconds(budget, "--budget"),
        sample=sample,
        k=k,
        verify=verify,
        seed=seed,
        overwrite=output.overwrite,
        tell=lambda line: print(line, file=sys.stderr, flush=True),  # noqa: T201
    )
    write_config(output.output_dir, "trace", arguments)
    if output.json:
        answers = [one.json() for one in found]
        print_json(answers if queries else answers[0])
    else:
        print("\n".join(in_words(found, decoder)))  # noqa: T201


def in_words(found: "Sequence[Trace]", decoder: str) -> list[str]:
    """The answers as lines of text, and the commands that go on from there."""
    lines: list[str] = []
    for one in found:
        whose = "The model's own answer" if one.question.generated else "Answer"
        lines += [f"\nAsked: {_line(one.question.example.prompt, 200)}", f"{whose}: {_line(one.answer, 200)}"]
        lines += ["\nRows that push towards it", *_rows(one.hits)]
        lines += ["\nRows that push away from it", *_rows(one.against)]
        if one.memorised:
            shown = len({hit.example.id for hit in (*one.hits, *one.against)})
            lines.append(
                f"\n{len(one.memorised)} of the {shown} rows shown are memorised, so their gradients are mostly noise. "
                "Take gradients from an earlier checkpoint."
            )
        if one.hits.trust is not None:
            rho, low, high = one.hits.trust
            band = f" (four of five such questions: {low:.2f} to {high:.2f})" if high - low < 1.5 else ""
            lines.append(f"\nHow far to trust it: expected agreement with exact gradients ρ {rho:.2f}{band}.")
    if found and found[0].pool_as_queries:
        lines.append("This was measured on pool rows in the role of questions: few questions were given.")
    return lines + _commands(found, decoder)


def _rows(hits: "Hits") -> list[str]:
    return [
        f"{hit.rank:>3}. {hit.score if hit.exact is None else hit.exact:+.3f}  {_line(hit.example.id, 24)}  "
        f"{_line(hit.example.prompt, 60)} → {_line(hit.example.completion, 60)}"
        for hit in hits
    ]


def _commands(found: "Sequence[Trace]", decoder: str) -> list[str]:
    folder = found[0].folder
    asked = ["--index", str(folder / "index"), "--queries", str(folder / "asked.jsonl"), "--decoder", decoder]
    commands = [
        ["search", *asked, "--verify", "100"],
        ["select", *asked, "--drop", "1%", "--output-dir", str(folder / "selection")],
        ["prove", *asked, "--remove", "20", "--output-dir", str(folder / "proof")],
    ]
    what = ("exact gradients of the best rows", "leave out what pushes towards it", "train without it, and ask again")
    return ["\nGo on:"] + [
        f"  influcoder {shlex.join(words)}  # {why}" for words, why in zip(commands, what, strict=True)
    ]


def _line(text: str, limit: int) -> str:
    from influcoder.report.visible import visible

    line = visible(" ".join(text.split()))
    return line if len(line) <= limit else line[: limit - 3] + "..."


def seconds(text: str, flag: str) -> float:
    """A time such as 90s, 30m or 2h in seconds.

    >>> seconds("30m", "--budget")
    1800.0
    """
    units = {"s": 1, "m": 60, "h": 3600}
    try:
        found = float(text[:-1]) * units[text[-1:]]
    except (KeyError, ValueError) as error:
        raise ConfigError(f"{flag} is {text!r}, expected a time such as 90s, 30m or 2h.") from error
    if not 0 < found < float("inf"):
        raise ConfigError(f"{flag} is {text!r}, expected more than no time.")
    return found
