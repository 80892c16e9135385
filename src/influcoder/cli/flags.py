"""Flags that several verbs share, each with what it does.

Frozen dataclasses, flattened into flags: one place for name, default and help.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from influcoder.errors import ConfigError

if TYPE_CHECKING:
    from influcoder.examples import Example
    from influcoder.verbs import Folder

Files = Annotated[list[str], Parameter(consume_multiple=True, negative="")]
Flag = Annotated[bool, Parameter(negative="")]


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

    def folder(self) -> "Folder":
        from influcoder.verbs import Folder

        return Folder(self.output_dir, getattr(self, "resume", False), self.overwrite)


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

        folder = output.output_dir
        return read_examples(
            files,
            columns=Columns(self.prompt_column, self.completion_column, self.text_column, self.id_column),
            on_error=self.on_error,
            rejects=folder.with_name(f"{folder.name}-rejects-{side}.jsonl"),
            max_reject_rate=self.max_reject_rate,
        )


def share(text: str | None, flag: str) -> float | None:
    """A share such as 5% or 0.05 as a number."""
    if text is None:
        return None
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError as error:
        raise ConfigError(f"{flag} is {text!r}, expected a share such as 5% or 0.05.") from error
