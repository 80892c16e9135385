"""The verbs around the path: the demo, the report, versions."""

from pathlib import Path

from influcoder.cli.flags import Flag, ResumableOutput, Seed
from influcoder.cli.output import print_json, write_config


def demo(*, output: ResumableOutput, quick: Flag = False, seed: Seed = 0) -> None:
    """Run the whole path on the built-in demo world: about two minutes on two cores.

    Args:
        quick: a small part of the world, to see that everything runs here; the numbers mean little
    """
    from influcoder.demo.run import run_demo
    from influcoder.report.console import print_demo
    from influcoder.store.output_folder import claim

    with claim(output.output_dir, resume=output.resume, overwrite=output.overwrite) as folder:
        write_config(folder, "demo", {"output": output, "quick": quick, "seed": seed})
        found = run_demo(folder, seed=seed, quick=quick)
    shown = found.pop("shown")
    if output.json:
        print_json(found)
    else:
        print_demo(found, shown, output.output_dir)


def report(folder: Path) -> None:
    """Write report.html from the metrics.json of a folder; prints its path.

    Args:
        folder: what `influcoder evaluate` or `influcoder demo` wrote
    """
    from influcoder.extras import require
    from influcoder.report.page import write_report

    require("matplotlib")  # a page without figures is there already
    print(write_report(folder))  # noqa: T201


def env() -> None:
    """Print versions, for a bug report."""
    from influcoder.report.console import print_versions

    print_versions()
