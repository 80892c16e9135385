"""The command line: one function per verb, each a few lines over `influcoder.verbs`, one file per stage."""

import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import cyclopts

from influcoder.errors import InflucoderError
from influcoder.model import remote_code
from influcoder.version import __version__

VERBS = {
    "demo": "around:demo",
    "trace": "trace:trace",
    "teachers": "teach:teachers",
    "show": "rows:show",
    "features": "teach:features",
    "distill": "student:distill",
    "index": "pool:index",
    "search": "pool:search",
    "select": "select:select",
    "score": "pool:score",
    "export": "export:export",
    "evaluate": "student:evaluate",
    "drift": "drift:drift",
    "prove": "prove:prove",
    "audit": "audit:audit",
    "serve": "serve:serve",
    "report": "around:report",
    "env": "around:env",
    "import": "teach:import_attribution",
    "self-check": "teach:self_check",
    "run": "run:run",
}
"""by name, the file and the function of each; imported when the verb is called"""
GROUPS = {
    "benchmark:benchmarks": "Measure every method side by side, on data that none of them was fitted on.",
    "plan:plans": "Estimate what a long job takes: rows, time by a measured probe, disk, memory.",
}
"""verbs with verbs of their own, named after their files, and what they are for"""
RESUMES_BY_ITSELF = "trace"
"""the verb that needs no --resume"""


def _command_line(*, listed: bool = False) -> cyclopts.App:
    """The verbs; with a line about each where they are listed, which is read without importing them."""
    made = cyclopts.App(
        name="influcoder",
        help="Which training examples push a language model towards an output, and which push it away.",
        version=__version__,
        help_format="plaintext",  # rendering Markdown takes as long as everything else
        suppress_keyboard_interrupt=False,  # reported by `main`
    )
    for name, place in VERBS.items():
        about = _summary(place) if listed else None
        made.command(f"influcoder.cli.{place}", name=name, help=about, help_format="markdown")
    for place, about in GROUPS.items():
        made.command(f"influcoder.cli.{place}", name=place.split(":")[0], help=about)
    return made


def _summary(place: str) -> str:
    """The first paragraph of a verb's docstring, as it stands in its file."""
    file, verb = place.split(":")
    text = Path(__file__).with_name(f"{file}.py").read_text(encoding="utf-8")
    found = re.search(rf'^def {verb}\(.*?"""(.+?)(?:\n\n|""")', text, re.DOTALL | re.MULTILINE)
    return " ".join(found[1].split()) if found else ""


app = _command_line()


def main() -> None:
    """Run the command line: our errors are one line on stderr and exit status 1; `--debug` shows where."""
    import signal

    # Read by OpenMP when torch is imported: threads that wait for a core in use elsewhere sleep instead of spinning.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGTERM, _terminate)
    debug = "--debug" in sys.argv
    remote_code.allow(False)
    try:
        try:
            _run([word for word in sys.argv[1:] if word != "--debug"])
        finally:
            print(end="", flush=True)  # noqa: T201 - a closed pipe raises here, not at the interpreter's exit
    except InflucoderError as error:
        if debug:
            raise
        _stop(str(error), 1)
    except KeyboardInterrupt as signalled:
        _stop(f"stopped. {how_to_resume(sys.argv[1:])}", 143 if signalled.args else 130)
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(words: Sequence[str]) -> None:
    (_command_line(listed=True) if words in ([], ["-h"], ["--help"]) else app)(words)


def _terminate(*_: object) -> None:
    raise KeyboardInterrupt("SIGTERM")


def how_to_resume(words: list[str]) -> str:
    """How to resume a command that was stopped."""
    verb = app.parse_commands(words)[1][-1]
    arguments = verb.assemble_argument_collection() if verb.default_command else ()
    flags = {name for argument in arguments for name in argument.names}
    command = ["influcoder", *(word for word in words if word not in ("--resume", "--overwrite"))]
    if verb.name == (RESUMES_BY_ITSELF,):
        return f"Resume with: {shlex.join(['influcoder', *words])}"
    if "--resume" in flags:
        return f"Resume with: {shlex.join([*command, '--resume'])}"
    if "--overwrite" in flags:
        return f"Start again with: {shlex.join([*command, '--overwrite'])}"
    return "Run the same command again."


def _stop(message: str, status: int) -> None:
    from influcoder.report.visible import visible

    print(f"error: {visible(' '.join(message.split()))}", file=sys.stderr)  # noqa: T201
    sys.exit(status)
