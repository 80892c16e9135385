"""The verbs beside the main ones: the demo, the report, versions."""

from pathlib import Path
from typing import Literal

from influcoder.cli.flags import Flag, ResumableOutput, Seed
from influcoder.cli.output import print_json, write_config


def demo(
    *,
    output: ResumableOutput,
    quick: Flag = False,
    index_only: Flag = False,
    seed: Seed = 0,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
) -> None:
    """Fine-tune the packaged decoder, find the rows behind its wrong answers, and prove it by training without them.

    About a minute on two cores with bfloat16, three without.

    Args:
        precision: of training and gradients; auto: bfloat16 where the processor has it
        quick: a small part of the data, to see that everything runs here; the numbers mean little
        index_only: only what `influcoder serve` shows, in a third of the time: no proof, no methods compared, no report
    """
    import os

    from influcoder.demo.run import prepare, run_demo
    from influcoder.demo.world import assets
    from influcoder.report.demo_output import how_to_serve, print_demo
    from influcoder.store.output_folder import claim

    with claim(output.output_dir, resume=output.resume, overwrite=output.overwrite) as folder:
        arguments = {"output": output, "quick": quick, "index_only": index_only, "seed": seed, "precision": precision}
        write_config(folder, "demo", arguments)
        if index_only:
            prepare(folder, seed=seed, quick=quick, precision=precision)
            print(how_to_serve(output.output_dir, os.path.relpath(assets() / "decoder")))  # noqa: T201
            return
        metrics = run_demo(folder, seed=seed, quick=quick, precision=precision)
    shown = metrics.pop("shown")
    if output.json:
        print_json(metrics)
    else:
        print_demo(metrics, shown, output.output_dir, os.path.relpath(assets() / "decoder"))


def report(folder: Path) -> None:
    """Write report.html from the metrics.json of a folder; prints its path.

    Args:
        folder: what `influcoder evaluate` or `influcoder demo` wrote
    """
    from influcoder.extras import require
    from influcoder.report.page import write_report

    require("matplotlib")  # `evaluate` and `demo` have written a page without figures
    print(write_report(folder))  # noqa: T201


def env() -> None:
    """Print versions, for a bug report."""
    from influcoder.report.console import print_versions

    print_versions()
