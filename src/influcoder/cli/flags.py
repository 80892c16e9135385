"""Flags that several verbs share, each with what it does.

Frozen dataclasses, flattened into flags: one place for name, default and help.
"""

import glob
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from influcoder.errors import ConfigError

if TYPE_CHECKING:
    from influcoder.examples import Example
    from influcoder.verbs import Folder

INPUTS = ("decoder", "adapter", "queries", "pool", "features", "train_features", "encoder", "index")
"the arguments that name what a verb reads: paths, globs or hub ids"


def _check_seed(_: object, seed: int) -> None:
    if not 0 <= seed < 2**31:
        raise ConfigError(f"--seed is {seed}, expected 0 to {2**31 - 1}.")


Files = Annotated[list[str], Parameter(consume_multiple=True, negative="")]
Flag = Annotated[bool, Parameter(negative="")]
Seed = Annotated[int, Parameter(validator=_check_seed, help="seed of everything random, from 0 to 2147483647")]


@Parameter(name="*")
@dataclass(frozen=True)
class Output:
    """Where a verb writes, and how it prints."""

    output_dir: Path
    "folder to write; refused when it is not empty"
    overwrite: Flag = False
    "empty the folder first"
    json: Flag = False
    "print the numbers as JSON"

    def folder(self, arguments: Mapping[str, Any]) -> "Folder":
        """The folder, apart from what a verb with these arguments reads."""
        from influcoder.verbs import Folder

        named = [arguments.get(name) or [] for name in INPUTS]
        places = [place for one in named for place in (one if isinstance(one, list) else [one])]
        inputs = tuple(path for place in places for path in local(place))
        return Folder(self.output_dir, getattr(self, "resume", False), self.overwrite, inputs)


@Parameter(name="*")
@dataclass(frozen=True)
class ResumableOutput(Output):
    """The same for a long job."""

    resume: Flag = False
    "go on with what an earlier, stopped run left in the folder"


@Parameter(name="*")
@dataclass(frozen=True)
class Reading:
    """How rows become examples."""

    prompt_column: str | None = None
    "column of the prompt; detected by name when omitted"
    completion_column: str | None = None
    "column of the completion; detected by name when omitted"
    text_column: str | None = None
    "column of plain text, all of which carries loss"
    id_column: str | None = None
    "column of the id; a hash of the text when there is none"
    on_error: Literal["fail", "skip"] = "fail"
    "stop at a row that cannot be used, or leave it out"
    max_reject_rate: float = 0.01
    "with --on-error skip: the largest share of such rows"

    def read(self, files: list[str], side: str, output: Output) -> "list[Example]":
        """Examples of some files; skipped rows go to OUTPUT_DIR-rejects-SIDE.jsonl, beside the output folder."""
        from influcoder.examples import Columns
        from influcoder.reading import read_examples

        return read_examples(
            files,
            columns=Columns(self.prompt_column, self.completion_column, self.text_column, self.id_column),
            on_error=self.on_error,
            rejects=Path(f"{os.path.abspath(output.output_dir)}-rejects-{side}.jsonl"),
            max_reject_rate=self.max_reject_rate,
        )


def local(place: str | Path) -> list[Path]:
    """The files and folders on this machine that a path or glob names; none of a hub id."""
    path = os.path.expanduser(place)
    return [Path(name) for name in ([path] if os.path.exists(path) else glob.glob(path, recursive=True))]


def share(text: str | None, flag: str) -> float | None:
    """A share such as 5% or 0.05 as a number."""
    if text is None:
        return None
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError as error:
        raise ConfigError(f"{flag} is {text!r}, expected a share such as 5% or 0.05.") from error
