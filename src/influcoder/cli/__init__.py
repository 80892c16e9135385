"""The command line: one function a verb, each a few lines over `influcoder.verbs`, in a file a stage."""

import os
import sys
from pathlib import Path

import cyclopts

from influcoder import __version__
from influcoder.cli.around import demo, env, report
from influcoder.cli.benchmark import benchmarks
from influcoder.cli.flags import Flag
from influcoder.cli.output import words_of
from influcoder.cli.pool import index, score, search, select
from influcoder.cli.student import distill, evaluate
from influcoder.cli.teach import features, import_attribution, self_check, teachers
from influcoder.errors import ConfigError, InflucoderError

app = cyclopts.App(
    name="influcoder",
    help="Which training examples push a language model towards an output, and which push it away.",
    version=__version__,
)
for verb in (demo, teachers, features, distill, index, search, select, score, evaluate, report, env):
    app.command(verb)
app.command(import_attribution, name="import")
app.command(self_check, name="self-check")
app.command(benchmarks, name="benchmark")


@app.command
def run(config: Path, *, resume: Flag = False, overwrite: Flag = False) -> None:
    """Run a verb again from the config.toml that it left in its output folder.

    Args:
        config: its path; the same folder is written again, so give one of the flags or set the folder aside
        resume: go on with what is in the output folder; for the verbs that have this flag
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
    app(words + ["--resume"] * resume + ["--overwrite"] * overwrite)


def main() -> None:
    """Run the command line: our errors are one line on stderr and exit status 1; `--debug` shows where."""
    import signal

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    debug = "--debug" in sys.argv
    try:
        try:
            app([word for word in sys.argv[1:] if word != "--debug"])
        finally:
            print(end="", flush=True)  # noqa: T201 - a closed pipe is met here, not at the interpreter's exit
    except InflucoderError as error:
        if debug:
            raise
        _stop(str(error), 1)
    except KeyboardInterrupt:
        _stop("stopped. Run the same command with --resume to go on, or with --overwrite to start again.", 130)
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _stop(message: str, status: int) -> None:
    from influcoder.visible import visible

    print(f"error: {visible(' '.join(message.split()))}", file=sys.stderr)  # noqa: T201
    sys.exit(status)
