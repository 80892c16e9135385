"""A job that writes a file a task, and what may befall its workers."""

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from influcoder.errors import DataError

ROWS = 5


@dataclass(frozen=True)
class Files:
    """Writes `task-N` for N; `trouble` says of a task what befalls its first tries, and of "make" the same."""

    folder: Path
    trouble: dict = field(default_factory=dict)

    def make(self):
        self.meet("make")
        (self.folder / f"worker-{os.getpid()}").write_text(os.environ.get("OMP_NUM_THREADS", ""))

        def work(number, advance):
            advance(ROWS - 1)
            self.meet(number)
            (self.folder / f"task-{number}").write_text(str(number))
            advance(1)

        return work

    def meet(self, what):
        kind, times = self.trouble.get(what, ("", 0))
        tries = self.folder / f"try-{what}-{os.getpid()}-{time.monotonic_ns()}"
        tries.touch()
        if self.tries(what) > times:
            return
        if kind == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "hangs":
            time.sleep(60)
        if kind == "breaks":
            raise ZeroDivisionError("a fault of the program")
        if kind == "refuses":
            raise DataError("row 3: bad")

    def tries(self, what):
        return len(list(self.folder.glob(f"try-{what}-*")))

    def done(self):
        return {int(path.name[5:]) for path in self.folder.glob("task-*")}

    def workers(self):
        return {int(path.name[7:]): path.read_text() for path in self.folder.glob("worker-*")}
