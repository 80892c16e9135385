"""The verb `benchmark NAME`: a protocol with every method in it, side by side."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cyclopts

from influcoder.cli.flags import Files, Flag, ResumableOutput
from influcoder.cli.output import finish

benchmarks = cyclopts.App(
    help="Measure every method side by side, on data that none of them was fitted on.", help_format="markdown"
)


@benchmarks.command
def causal(
    *,
    output: ResumableOutput,
    decoder: str,
    pool: Files | None = None,
    queries: Files | None = None,
    methods: Files | None = None,
    teacher: str = "gradient-cosine",
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
        methods: those to compare, all when omitted; random, the exact teacher and its sanity check are always there
        teacher: what our students learn from, see `influcoder teachers`
        subsets: halves of the pool that are retrained on
        seeds: models that are trained and attributed
        max_length: tokens of an example that are read
        quick: the same protocol, small, whatever --subsets and --seeds say: a minute, and no number worth keeping
    """
    arguments = dict(locals())
    from influcoder.benchmarks.results.tables import causal_tables
    from influcoder.benchmarks.run import benchmark_causal

    _run("causal", arguments, output, benchmark_causal, causal_tables)


@benchmarks.command
def fidelity(
    *,
    output: ResumableOutput,
    decoder: str,
    data: Path,
    backbone: str | None = None,
    teacher: str = "gradient-cosine",
    corpora: Files = ["dolly", "benign_chat", "facts"],  # noqa: B006 - never changed
    more_queries: int = 2000,
    more_pool: int = 7000,
    seeds: int = 3,
    max_length: int = 512,
    quick: Flag = False,
) -> None:
    """Hold every student and rival against the exact teacher, on tasks and facts that none has seen.

    Args:
        decoder: the model whose gradients are the truth
        data: the folder of the corpora: bbh, dolly, benign_chat and counterfact
        backbone: a Sentence Transformers folder or hub id for the paper's recipe; without it that rival is left out
        teacher: whose influences are the truth, see `influcoder teachers`; one that needs no checkpoints
        corpora: those to measure on
        more_queries: queries beside the 500 to learn from, for pseudo-labels; facts have no more than 0.3 of more_pool
        more_pool: pool rows beside the 1,000, for pseudo-labels and the scaling curve; 0 where gradients are dear
        seeds: splits, teachers and students
        max_length: tokens of an example that are read
        quick: the same protocol, small: no number worth keeping
    """
    arguments = dict(locals())
    from influcoder.benchmarks.results.tables import fidelity_tables
    from influcoder.benchmarks.run import benchmark_fidelity

    _run("fidelity", arguments, output, benchmark_fidelity, fidelity_tables)


@benchmarks.command
def toxicity(
    *,
    output: ResumableOutput,
    decoder: str,
    data: str,
    backbone: str | None = None,
    methods: Files | None = None,
    teacher: str = "rds+",
    benign: int = 808,
    seeds: int = 3,
    max_length: int = 64,
    quick: Flag = False,
) -> None:
    """Find the few unsafe examples that a decoder was fine-tuned on, from unsafe references of another source.

    Args:
        decoder: the model that is fine-tuned, as it was before
        data: the folder of the corpora: dolly, benign_chat and toxicity; or the hub id of DATE-LM's set, with :SUBSET
        backbone: a Sentence Transformers folder or hub id for the paper's recipe; without it that rival is left out
        methods: those to compare, all when omitted; random, the exact teacher and its sanity check are always there
        teacher: what our students learn from, see `influcoder teachers`
        benign: benign rows of the pool; one unsafe row is hidden for every 101, and two refusals that look alike
        seeds: draws of everything, models and methods
        max_length: tokens of an example that are read
        quick: the same protocol, small, whatever --benign and --seeds say: a minute, and no number worth keeping
    """
    arguments = dict(locals())
    from influcoder.benchmarks.results.task_tables import toxicity_tables
    from influcoder.benchmarks.run import benchmark_toxicity

    _run("toxicity", arguments, output, benchmark_toxicity, toxicity_tables)


@benchmarks.command
def counterfact(
    *,
    output: ResumableOutput,
    decoder: str,
    data: str,
    backbone: str | None = None,
    methods: Files | None = None,
    teacher: str = "gradient-cosine",
    seeds: int = 3,
    max_length: int = 64,
    quick: Flag = False,
) -> None:
    """Find the rows that taught a decoder false facts, among look-alikes that share their words.

    Args:
        decoder: the model that is taught, as it was before
        data: the folder of the corpora: counterfact, with its templates; or the hub id of DATE-LM's set, with :SUBSET
        backbone: a Sentence Transformers folder or hub id for the paper's recipe; without it that rival is left out
        methods: those to compare, all when omitted; random, the exact teacher and its sanity check are always there
        teacher: what our students learn from, see `influcoder teachers`
        seeds: draws of everything, models and methods
        max_length: tokens of an example that are read
        quick: the same protocol, small, whatever --seeds says: a minute, and no number worth keeping
    """
    arguments = dict(locals())
    from influcoder.benchmarks.results.task_tables import counterfact_tables
    from influcoder.benchmarks.run import benchmark_counterfact

    _run("counterfact", arguments, output, benchmark_counterfact, counterfact_tables)


@benchmarks.command
def selection(
    *,
    output: ResumableOutput,
    decoder: str,
    data: str,
    backbone: str | None = None,
    methods: Files | None = None,
    teacher: str = "gradient-cosine",
    tasks: Files = ["math", "paraphrase"],  # noqa: B006 - never changed
    rows: int = 240,
    seeds: int = 3,
    max_length: int = 64,
    quick: Flag = False,
) -> None:
    """Choose 5 % of a mixed pool for a task, fine-tune on it, and measure the task's test loss.

    Args:
        decoder: the model that is fine-tuned, as it was before
        data: the folder of the corpora: dolly and benign_chat
        backbone: a Sentence Transformers folder or hub id for the paper's recipe; without it that rival is left out
        methods: those to compare, all when omitted; random, the exact teacher and its sanity check are always there
        teacher: what our students learn from, see `influcoder teachers`
        tasks: genres of benign_chat
        rows: what there is to choose from, half of them Dolly's
        seeds: draws of everything, models and methods
        max_length: tokens of an example that are read
        quick: the same protocol, small, whatever --rows and --seeds say: a minute, and no number worth keeping
    """
    arguments = dict(locals())
    from influcoder.benchmarks.results.task_tables import selection_tables
    from influcoder.benchmarks.run import benchmark_selection

    _run("selection", arguments, output, benchmark_selection, selection_tables)


@benchmarks.command
def paper(
    *,
    output: ResumableOutput,
    decoder: str,
    data: str,
    backbones: Files,
    seeds: int = 3,
    max_length: int = 1024,
    quick: Flag = False,
) -> None:
    """Repeat the paper's experiment: students of BIG-Bench Hard on Dolly, beside ours, at the paper's sizes.

    Args:
        decoder: the model whose influences are the truth, as it is
        data: the folder of the corpora: bbh and dolly; or hub, to read them by their hub ids
        backbones: Sentence Transformers folders or hub ids, a student of the paper's recipe each
        seeds: splits, teachers and students
        max_length: tokens of an example that are read
        quick: the same protocol, small, whatever --seeds says: no number worth keeping
    """
    arguments = dict(locals())
    from influcoder.benchmarks.results.task_tables import paper_tables
    from influcoder.benchmarks.run import benchmark_paper

    _run("paper", arguments, output, benchmark_paper, paper_tables)


def _run(
    name: str,
    arguments: Mapping[str, Any],
    output: ResumableOutput,
    benchmark: Callable[..., dict[str, Any]],
    tables: Callable[[Mapping[str, Any]], str],
) -> None:
    """Load the decoder and run a benchmark on it; what is neither of the two nor the folder is the benchmark's own."""
    from influcoder.model.decoder import Decoder

    own = {key: value for key, value in arguments.items() if key not in ("output", "decoder", "max_length")}
    if "data" in own:
        own["data"] = Path(own["data"])
    loaded = Decoder.load(arguments["decoder"], max_length=arguments["max_length"])
    found = benchmark(loaded, output.folder(arguments), **own)
    finish(f"benchmark {name}", arguments, found, output, shown=tables(found))
