"""The folder that a verb writes into."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from influcoder.atomic import claim
from influcoder.runners import Share


@dataclass(frozen=True, slots=True)
class Folder:
    """Where a verb writes, what it does with what is already there, and the inputs that it must not touch."""

    path: Path
    resume: bool = False
    overwrite: bool = False
    inputs: tuple[Path, ...] = ()
    share: Share = field(default_factory=Share)

    def claim(self) -> Any:
        return claim(self.path, resume=self.resume, overwrite=self.overwrite, inputs=self.inputs, share=self.share)
