"""The verb `benchmark NAME`: a protocol with every method in it, side by side."""

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
