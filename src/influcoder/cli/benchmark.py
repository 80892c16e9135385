"""The verb `benchmark NAME`: every method compared under one protocol."""

from dataclasses import dataclass
from typing import Any

import cyclopts

from influcoder.benchmarks.settings import (
    BenchmarkSettings,
    CausalSettings,
    CounterfactSettings,
    FidelitySettings,
    PaperSettings,
    SelectionSettings,
    ToxicitySettings,
)
from influcoder.cli.flags import NO_TRUST, Files, Flag, ResumableOutput, Trust
from influcoder.cli.output import finish

benchmarks = cyclopts.App(name="benchmark", help_format="markdown")


@cyclopts.Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Run(ResumableOutput):
    """What is run, and where the results are written."""

    decoder: str
    "folder or hub id of the model as it was before any fine-tuning"
    quick: Flag = False
    "the same protocol in about a minute, whatever the sizes: its numbers mean little"


@benchmarks.command
def causal(
    *,
    run: Run,
    pool: Files | None = None,
    queries: Files | None = None,
    data: str | None = None,
    settings: CausalSettings = CausalSettings(),  # noqa: B008 - frozen
    trust: Trust = NO_TRUST,
) -> None:
    """Compare every method with what training does: retrained subsets (LDS) and single steps.

    Without --pool, --queries and --data it is measured on facts and tasks that come with the package.

    Args:
        pool: training examples
        queries: what is asked
        data: in place of both, the folder of the corpora bbh, dolly, benign_chat and counterfact: a mixed pool of them
    """
    _run("causal", run, settings, pool=pool, queries=queries, data=data)


@benchmarks.command
def fidelity(
    *,
    run: Run,
    data: str,
    settings: FidelitySettings = FidelitySettings(),  # noqa: B008 - frozen
    trust: Trust = NO_TRUST,
) -> None:
    """Compare every student and every other method with the exact teacher, on tasks and facts that none has seen.

    Args:
        data: the folder of the corpora: bbh, dolly, benign_chat and counterfact
    """
    _run("fidelity", run, settings, data=data)


@benchmarks.command
def toxicity(
    *,
    run: Run,
    data: str,
    settings: ToxicitySettings = ToxicitySettings(),  # noqa: B008 - frozen
    trust: Trust = NO_TRUST,
) -> None:
    """Find the few unsafe examples that a decoder was fine-tuned on, from unsafe references of another source.

    Args:
        data: the folder of the corpora: dolly, benign_chat and toxicity; or the hub id of DATE-LM's set, with :SUBSET
    """
    _run("toxicity", run, settings, data=data)


@benchmarks.command
def counterfact(
    *,
    run: Run,
    data: str,
    settings: CounterfactSettings = CounterfactSettings(),  # noqa: B008 - frozen
    trust: Trust = NO_TRUST,
) -> None:
    """Find the rows that taught a decoder false facts, among look-alikes that share their words.

    Args:
        data: the folder of the corpora: counterfact, with its templates; or the hub id of DATE-LM's set, with :SUBSET
    """
    _run("counterfact", run, settings, data=data)


@benchmarks.command
def selection(
    *,
    run: Run,
    data: str,
    settings: SelectionSettings = SelectionSettings(),  # noqa: B008 - frozen
    trust: Trust = NO_TRUST,
) -> None:
    """Choose 5 % of a mixed pool for a task, fine-tune on it, and measure the task's test loss.

    Args:
        data: the folder of the corpora: dolly and benign_chat
    """
    _run("selection", run, settings, data=data)


@benchmarks.command
def paper(*, run: Run, data: str, settings: PaperSettings, trust: Trust = NO_TRUST) -> None:
    """Repeat the paper's experiment: students of BIG-Bench Hard on Dolly, beside ours, at the paper's sizes.

    Args:
        data: the folder of the corpora: bbh and dolly; or hub, to read them by their hub ids
    """
    _run("paper", run, settings, data=data)


def _run(name: str, run: Run, settings: BenchmarkSettings, **inputs: Any) -> None:
    from influcoder.benchmarks.run import run_benchmark
    from influcoder.model.decoder import Decoder

    arguments = {"run": run, **inputs, **settings.flags()}
    decoder, folder = Decoder.load(run.decoder, max_length=settings.max_length), run.folder(arguments)
    metrics, tables = run_benchmark(name, decoder, settings, folder, quick=run.quick, **inputs)
    finish(f"benchmark {name}", arguments, metrics, run, shown=tables)
