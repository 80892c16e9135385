"""A contender's process, seen from the benchmark."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any


class Failed(Exception):
    """A contender could not do what it was asked for; the message says why."""


class Process:
    """A contender that is alive and does what it is told.

    Raises:
        Failed: it ended before it was ready.
    """

    def __init__(self, python: Path, script: Path, job: Path, log: Path, threads: int) -> None:
        self.log = log
        with log.open("w") as errors:
            self.child = subprocess.Popen(
                [str(python), str(script), str(job)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ
                | {
                    "OMP_NUM_THREADS": str(threads),
                    "TOKENIZERS_PARALLELISM": "false",
                    "TQDM_DISABLE": "1",
                    "HF_HUB_OFFLINE": "1",
                },
            )
        self.versions: dict[str, str] = self._answer()["versions"]

    def ask(self, **order: Any) -> dict[str, Any]:
        """Give an order and wait for its answer.

        Raises:
            Failed: the contender failed, or ended.
        """
        assert self.child.stdin is not None
        try:
            print(json.dumps(order), file=self.child.stdin, flush=True)
        except BrokenPipeError:
            raise Failed(self._last_words()) from None
        return self._answer()

    def end(self) -> None:
        with self.child:  # closes its input, and waits
            pass

    def _answer(self) -> dict[str, Any]:
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        if not line:
            self.child.wait()
            raise Failed(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def _last_words(self) -> str:
        lines = self.log.read_text().strip().splitlines()
        return lines[-1] if lines else f"ended with status {self.child.returncode}"
