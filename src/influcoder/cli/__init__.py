"""The command line: one function per verb, each a few lines over `influcoder.verbs`, one file per stage."""

import os
import shlex
import sys
from pathlib import Path

import cyclopts

from influcoder.cli.around import demo, env, report
from influcoder.cli.audit import audit
from influcoder.cli.benchmark import benchmarks
from influcoder.cli.drift import drift
from influcoder.cli.export import export
from influcoder.cli.flags import NO_TRUST, Flag, Trust
from influcoder.cli.output import words_of
from influcoder.cli.plan import plans
from influcoder.cli.pool import index, score, search
from influcoder.cli.prove import prove
from influcoder.cli.rows import show
from influcoder.cli.select import select
from influcoder.cli.serve import serve
from influcoder.cli.student import distill, evaluate
from influcoder.cli.teach import features, import_attribution, self_check, teachers
from influcoder.cli.trace import trace
from influcoder.errors import ConfigError, InflucoderError
from influcoder.model import remote_code
from influcoder.version import __version__

RESUMES_BY_ITSELF = "trace"
"""the verb that needs no --resume"""

app = cyclopts.App(
    name="influcoder",
    help="Which training examples push a language model towards an output, and which push it away.",
    version=__version__,
    help_format="plaintext",  # rendering Markdown takes as long as everything else
    suppress_keyboard_interrupt=False,  # reported by `main`
)
for verb in (
    demo,
    trace,
    teachers,
    show,
    features,
    distill,
    index,
    search,
    select,
    score,
    export,
    evaluate,
    drift,
    prove,
    audit,
    serve,
    report,
    env,
):
    app.command(verb, help_format="markdown")
app.command(import_attribution, name="import", help_format="markdown")
app.command(self_check, name="self-check", help_format="markdown")
app.command(benchmarks, name="benchmark")
app.command(plans, name="plan")


@app.command
def run(config: Path, *, resume: Flag = False, overwrite: Flag = False, trust: Trust = NO_TRUST) -> None:
    """Run a verb again from the config.toml that it wrote to its output folder.

    Args:
        config: its path; the same folder is written again, so give one of the flags or move the folder away
        resume: continue with what is in the output folder; for the verbs that have this flag
        overwrite: empty the output folder first
    """
    import tomllib

    try:
        settings = tomllib.loads(config.read_text(encoding="utf-8"))
        words = words_of(settings)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"{config}: not the config of a run ({error!r}); expected the config.toml of an output folder."
        ) from error
    resumes = resume and words[0] != RESUMES_BY_ITSELF
    app(words + ["--resume"] * resumes + ["--overwrite"] * overwrite)


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
            app([word for word in sys.argv[1:] if word != "--debug"])
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
