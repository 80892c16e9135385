"""Python code in processes of its own, which can import what this one can, and their end."""

import signal
import sys
import time

from helpers.forks import Fork


def start(script, *arguments):
    """A process that runs `script`, once it has printed "started"."""
    process = Fork(_run_script, script, *map(str, arguments))
    assert process.stdout.readline() == "started\n", process.stderr.read()
    return process


def _run_script(script, *arguments):
    sys.argv = ["-c", *arguments]
    exec(compile(script, "script", "exec"), {"__name__": "__main__"})


def kill(process):
    """Whether the process was still at work."""
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def wait_for(path, seconds=60):
    begin = time.monotonic()
    while not path.exists() and time.monotonic() - begin < seconds:
        time.sleep(0.002)
