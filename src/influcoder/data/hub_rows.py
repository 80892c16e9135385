"""Rows of a data set on the Hugging Face hub, by its id: streamed through `datasets` without a download."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from influcoder.errors import DataError, first_line
from influcoder.extras import optional

_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(:[\w.-]*){0,2}")


@dataclass(frozen=True, slots=True)
class HubRows:
    """The rows of `org/dataset[:config][:split]`; the split is train when omitted.

    >>> HubRows("org/data:en:test").parts, HubRows("org/data").parts
    (('org/data', 'en', 'test'), ('org/data', None, 'train'))
    """

    given: str

    def __str__(self) -> str:
        return self.given

    @property
    def suffix(self) -> str:
        """Like that of a file; empty."""
        return ""

    @property
    def parts(self) -> tuple[str, str | None, str]:
        """(hub id, configuration, split)."""
        name, config, split = (*self.given.split(":"), "", "")[:3]
        return name, config or None, split or "train"

    def rows(self) -> Iterator[Any]:
        """Its rows, fetched as they are asked for.

        Raises:
            MissingDependency: `datasets` is not installed.
            DataError: it cannot be reached, or there is no such data set, configuration or split.
        """
        name, config, split = self.parts
        try:
            datasets = optional("datasets")
            yield from datasets.load_dataset(name, config, split=split, streaming=True)
        except Exception as error:  # the hub, the network and every data set raise errors of their own
            from huggingface_hub import constants

            remedy = (
                "HF_HUB_OFFLINE is set, so the hub is not asked: unset it, or give files."
                if constants.HF_HUB_OFFLINE
                else "Expected files, or ORG/DATASET[:CONFIG][:SPLIT] of the hub; a private one needs HF_TOKEN."
            )
            reason = first_line(error).rstrip(".")
            raise DataError(f"{self}: no such file, and not read from the hub: {reason}. {remedy}") from error


def is_hub_id(text: str) -> bool:
    """Whether a text may be the id of a data set."""
    return _ID.fullmatch(text) is not None
