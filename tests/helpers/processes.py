"""Python code in processes of its own, which can import what this one can, and their end."""

import os
import signal
import subprocess
import sys
import time


def start(script, *arguments):
    """A process that runs `script`, once it has printed "started"."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout.readline() == "started\n", process.stderr.read()
    return process


def kill(process):
    """Whether the process was still at work."""
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def wait_for(path, seconds=60):
    begin = time.monotonic()
    while not path.exists() and time.monotonic() - begin < seconds:
        time.sleep(0.002)
