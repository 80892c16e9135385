"""A user's own training, as a command that gets each subset of a pool as a file."""

import contextlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from influcoder.data.columns import data_fingerprint, to_json
from influcoder.data.examples import Example
from influcoder.errors import ConfigError, ModelError
from influcoder.model.decoder import Decoder
from influcoder.provenance import Provenance
from influcoder.store.files import atomic_file

NEEDED = ("{data}", "{output}")
TAIL = 5
"""lines of a failed command's output that the error message shows"""


@dataclass(frozen=True, slots=True)
class TrainCommand:
    """Trains a model on rows of a pool with a command such as `python train.py {data} {output}`.

    `{data}` becomes the path of a JSONL file of the rows, `{output}` that of a folder in which the command saves a
    Hugging Face model with its tokenizer, `{seed}` the seed. It is run without a shell, in the folder that this program
    was started in. Its output goes to `<name>.log`; data and model are removed once the model is loaded.

    Args:
        pool: the examples, for their ids.
        rows: the same examples as they are written, in the pool's own columns.
        folder: where the files of the trainings are kept.
        max_length: tokens of an example that the trained model reads.

    Raises:
        ConfigError: the command cannot be split into words, or lacks a placeholder.
    """

    command: str
    pool: Sequence[Example]
    rows: Sequence[Mapping[str, Any]]
    folder: Path
    max_length: int = 1024

    def __post_init__(self) -> None:
        check_command(self.command)

    @property
    def epochs(self) -> int:
        return 1

    @property
    def provenance(self) -> Provenance:
        return Provenance(data=data_fingerprint(self.pool), training={"command": self.command})

    def train(self, removed: Collection[int], seed: int, name: str, advance: Callable[[int], None]) -> Decoder:
        """The model that the command saves.

        Raises:
            ModelError: it fails, or saves no model that can be loaded.
        """
        work, log = (self.folder / name).absolute(), self.folder / f"{name}.log"
        shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
        (work / "model").mkdir(parents=True)
        with atomic_file(work / "data.jsonl") as file:
            file.writelines(to_json(row) + b"\n" for number, row in enumerate(self.rows) if number not in removed)
        words = shlex.split(self.command)
        for placeholder, value in {"data": work / "data.jsonl", "output": work / "model", "seed": seed}.items():
            words = [word.replace(f"{{{placeholder}}}", str(value)) for word in words]
        _run(words, log)
        try:
            model = Decoder.load(work / "model", max_length=self.max_length)
        except ModelError as error:
            raise ModelError(f"the training command ended well, but left no model: {error}") from error
        shutil.rmtree(work)
        advance(len(self.rows) - len(removed))
        return model


def check_command(command: str) -> None:
    """Refuse a training command that does not say where data and output go.

    Raises:
        ConfigError: it cannot be split into words, or lacks a placeholder.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"--train-command {command!r}: {error}. Fix its quotes.") from error
    missing = [placeholder for placeholder in NEEDED if not any(placeholder in word for word in words)]
    if missing:
        raise ConfigError(
            f"--train-command {command!r} lacks {' and '.join(missing)}. Say where the path of the training data and "
            "of the folder for the model go, as in 'python train.py {data} {output}'."
        )


def _run(words: list[str], log: Path) -> None:
    try:
        with open(log, "wb") as file:
            process = subprocess.run(
                words, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, check=False
            )
    except OSError as error:
        raise ConfigError(
            f"the training command cannot be started: {words[0]}: {os.strerror(error.errno or 0)}. Give a program that "
            "is there; pipes, && and other parts of a shell need a script of their own."
        ) from error
    if process.returncode:
        tail = ""
        with contextlib.suppress(OSError):
            tail = " | ".join(log.read_text("utf-8", "replace").strip().splitlines()[-TAIL:])
        raise ModelError(
            f"the training command ended with exit status {process.returncode}: {tail or 'it printed nothing'}. It "
            f"was: {shlex.join(words)}; its whole output is in {log}. Fix it, then continue with --resume."
        )
