"""The verb `benchmark NAME`: a protocol with every method in it, side by side."""

from typing import Annotated, Any

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
from influcoder.cli.flags import Files, ResumableOutput
from influcoder.cli.output import finish

benchmarks = cyclopts.App(help="Measure every method side by side, on data that none of them was fitted on.")
Model = Annotated[str, cyclopts.Parameter(help="folder or hub id of the model as it was before any fine-tuning")]
Quick = Annotated[
    bool,
    cyclopts.Parameter(
        negative="", help="the same protocol in about a minute, whatever the sizes are: no number worth keeping"
    ),
]


@benchmarks.command
def causal(
    *,
    output: ResumableOutput,
    decoder: Model,
    pool: Files | None = None,
    queries: Files | None = None,
    settings: CausalSettings = CausalSettings(),  # noqa: B008 - frozen
    quick: Quick = False,
) -> None:
    """Compare every method with what training does: retrained subsets (LDS) and single steps.

    Args:
        pool: training examples; the demo's, with false facts among them, when omitted
        queries: what is asked; the demo's facts and tasks when omitted
    """
    _run("causal", output, decoder, settings, quick, pool=pool, queries=queries)


@benchmarks.command
def fidelity(
    *,
    output: ResumableOutput,
    decoder: Model,
    data: str,
    settings: FidelitySettings = FidelitySettings(),  # noqa: B008 - frozen
    quick: Quick = False,
) -> None:
    """Compare every student and rival with the exact teacher, on tasks and facts that none has seen.

    Args:
        data: the folder of the corpora: bbh, dolly, benign_chat and counterfact
    """
    _run("fidelity", output, decoder, settings, quick, data=data)


@benchmarks.command
def toxicity(
    *,
    output: ResumableOutput,
    decoder: Model,
    data: str,
    settings: ToxicitySettings = ToxicitySettings(),  # noqa: B008 - frozen
    quick: Quick = False,
) -> None:
    """Find the few unsafe examples that a decoder was fine-tuned on, from unsafe references of another source.

    Args:
        data: the folder of the corpora: dolly, benign_chat and toxicity; or the hub id of DATE-LM's set, with :SUBSET
    """
    _run("toxicity", output, decoder, settings, quick, data=data)


@benchmarks.command
def counterfact(
    *,
    output: ResumableOutput,
    decoder: Model,
    data: str,
    settings: CounterfactSettings = CounterfactSettings(),  # noqa: B008 - frozen
    quick: Quick = False,
) -> None:
    """Find the rows that taught a decoder false facts, among look-alikes that share their words.

    Args:
        data: the folder of the corpora: counterfact, with its templates; or the hub id of DATE-LM's set, with :SUBSET
    """
    _run("counterfact", output, decoder, settings, quick, data=data)


@benchmarks.command
def selection(
    *,
    output: ResumableOutput,
    decoder: Model,
    data: str,
    settings: SelectionSettings = SelectionSettings(),  # noqa: B008 - frozen
    quick: Quick = False,
) -> None:
    """Choose 5 % of a mixed pool for a task, fine-tune on it, and measure the task's test loss.

    Args:
        data: the folder of the corpora: dolly and benign_chat
    """
    _run("selection", output, decoder, settings, quick, data=data)


@benchmarks.command
def paper(*, output: ResumableOutput, decoder: Model, data: str, settings: PaperSettings, quick: Quick = False) -> None:
    """Repeat the paper's experiment: students of BIG-Bench Hard on Dolly, beside ours, at the paper's sizes.

    Args:
        data: the folder of the corpora: bbh and dolly; or hub, to read them by their hub ids
    """
    _run("paper", output, decoder, settings, quick, data=data)


def _run(
    name: str, output: ResumableOutput, decoder: str, settings: BenchmarkSettings, quick: bool, **inputs: Any
) -> None:
    from influcoder.benchmarks.run import run_benchmark
    from influcoder.model.decoder import Decoder

    arguments = {"output": output, "decoder": decoder, **inputs, **settings.flags(), "quick": quick}
    loaded, folder = Decoder.load(decoder, max_length=settings.max_length), output.folder(arguments)
    metrics, tables = run_benchmark(name, loaded, settings, folder, quick=quick, **inputs)
    finish(f"benchmark {name}", arguments, metrics, output, shown=tables)
