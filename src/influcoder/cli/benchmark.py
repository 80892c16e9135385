"""The verb `benchmark NAME`: a protocol with every method in it, side by side."""

from pathlib import Path

import cyclopts

from influcoder.cli.flags import Files, Flag, ResumableOutput
from influcoder.cli.output import finish

benchmarks = cyclopts.App(help="Measure every method side by side, on data that none of them was fitted on.")


@benchmarks.command
def causal(
    *,
    output: ResumableOutput,
    decoder: str,
    pool: Files | None = None,
    queries: Files | None = None,
    subsets: int = 60,
    seeds: int = 3,
    max_length: int = 512,
    quick: Flag = False,
) -> None:
    """Hold every method against what training does: retrained subsets (LDS) and single steps.

    Args:
        decoder: the model that is fine-tuned on the pool, as it was before
        pool: training examples; the demo's, with false facts among them, when omitted
        queries: what is asked; the demo's facts and tasks when omitted
        subsets: halves of the pool that are retrained on
        seeds: models that are trained and attributed
        max_length: tokens of an example that are read
        quick: the same protocol, small, whatever --subsets and --seeds say: a minute, and no number worth keeping
    """
    arguments = dict(locals())
    from influcoder.benchmarks.run import benchmark_causal
    from influcoder.benchmarks.tables import causal_tables
    from influcoder.decoder import Decoder

    loaded = Decoder.load(decoder, max_length=max_length)
    found = benchmark_causal(loaded, output.folder(arguments), pool, queries, subsets=subsets, seeds=seeds, quick=quick)
    finish("benchmark causal", arguments, found, output, shown=causal_tables(found))


@benchmarks.command
def fidelity(
    *,
    output: ResumableOutput,
    decoder: str,
    data: Path,
    backbone: str | None = None,
    seeds: int = 3,
    max_length: int = 512,
    quick: Flag = False,
) -> None:
    """Hold every student and rival against the exact teacher, on tasks and facts that none has seen.

    Args:
        decoder: the model whose gradients are the truth
        data: the folder of the corpora: bbh, dolly, benign_chat and counterfact
        backbone: a Sentence Transformers folder or hub id for the paper's recipe; without it that rival is left out
        seeds: splits, teachers and students
        max_length: tokens of an example that are read
        quick: the same protocol, small: no number worth keeping
    """
    arguments = dict(locals())
    from influcoder.benchmarks.run import benchmark_fidelity
    from influcoder.benchmarks.tables import fidelity_tables
    from influcoder.decoder import Decoder

    loaded = Decoder.load(decoder, max_length=max_length)
    found = benchmark_fidelity(loaded, output.folder(arguments), data, backbone=backbone, seeds=seeds, quick=quick)
    finish("benchmark fidelity", arguments, found, output, shown=fidelity_tables(found))
