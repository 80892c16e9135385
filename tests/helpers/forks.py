"""Real processes without the wait: each is forked from a server that has imported what they need, once.

A new interpreter takes six to ten seconds to import PyTorch and transformers on a slow machine. A fork of the server
is a process of its own all the same: it has its own memory, folder, environment and output, and can be killed.
"""

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading

PRELOADED = [
    "influcoder.cli",
    "influcoder.verbs.distill",
    "influcoder.verbs.evaluate",
    "influcoder.verbs.index",
    "influcoder.verbs.prove",
    "influcoder.verbs.search",
    "influcoder.serve.app",
    "peft",
    "scipy.stats",
    "transformers.models.llama.modeling_llama",
]

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(PRELOADED)


class Fork:
    """A process that runs `target(*arguments)`; with the attributes and methods of `subprocess.Popen`."""

    def __init__(self, target, *arguments, cwd=None, env=None):
        (stdin, ours), (out, stdout), (err, stderr) = (SERVER.Pipe(duplex=False) for _ in range(3))
        place, environment = os.fspath(cwd or os.getcwd()), dict(os.environ if env is None else env)
        streams = (stdin, stdout, stderr)
        self._process = SERVER.Process(target=_run, args=(streams, place, environment, target, arguments))
        self._process.start()
        atexit.register(self._process.kill)  # otherwise a test that fails waits for it for ever
        self.pid, self.args = self._process.pid, arguments
        self.stdin, self.stdout, self.stderr = (
            os.fdopen(os.dup(pipe.fileno()), mode) for pipe, mode in ((ours, "w"), (out, "r"), (err, "r"))
        )
        for pipe in (*streams, ours, out, err):
            pipe.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for stream in (self.stdin, self.stdout, self.stderr):
            stream.close()
        self.wait()

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self._process.exitcode

    def wait(self, timeout=None):
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("a fork", timeout)
        return self.returncode

    def communicate(self, timeout=None):
        if not self.stdin.closed:
            self.stdin.close()
        texts = {}
        readers = [
            threading.Thread(target=lambda name=name: texts.update({name: getattr(self, name).read()}), daemon=True)
            for name in ("stdout", "stderr")
        ]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join(timeout)
        for stream in (self.stdout, self.stderr):
            stream.close()
        return texts["stdout"], texts["stderr"]

    def send_signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def terminate(self):
        self.send_signal(signal.SIGTERM)


def run(target, *arguments, timeout=600, **options):
    """What `subprocess.run` gives, of a fork."""
    with Fork(target, *arguments, **options) as process:
        out, err = process.communicate(timeout)
    return subprocess.CompletedProcess([target.__name__, *arguments], process.returncode, out, err)


def command(*words):
    """The command line, as `influcoder` with these words: the target of a fork."""
    from influcoder.cli import main

    sys.argv = ["influcoder", *words]
    sys.exit(main())


def module(name, *words):
    """A module, as `python -m name` with these words: the target of a fork."""
    sys.argv = [name, *words]
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def script(path, *words):
    """A Python file, as `python path` with these words: the target of a fork."""
    sys.argv = [path, *words]
    sys.path.insert(0, os.path.dirname(path))
    runpy.run_path(path, run_name="__main__")


def _run(streams, place, environment, target, arguments):
    for number, stream in enumerate(streams):
        os.dup2(stream.fileno(), number)
        stream.close()
    sys.stdin = os.fdopen(0, closefd=False)  # multiprocessing has closed it
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's ignores it
    os.chdir(place)
    os.environ.clear()
    os.environ.update(environment)
    target(*arguments)
