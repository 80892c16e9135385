"""Everything Influcoder raises on purpose. Catch `InflucoderError` to catch it all.

InflucoderError
├── ConfigError         a setting is wrong or does not fit another
├── DataError           an input file or row cannot be used
├── ModelError          a decoder, adapter, tokenizer or encoder cannot be used
├── StoreError          a folder on disk cannot be read or written
│   ├── StoreIncomplete   its run has not finished
│   ├── StoreCorrupt      its bytes are not those that were written
│   └── StoreMismatch     it was made with other settings, data or model
├── WorkerError         what shares the work died, and could not be replaced
└── MissingDependency   an optional package is not installed

A message says what happened, where, what was expected, and what to do.
"""

from collections.abc import Collection


class InflucoderError(Exception):
    """Base of all errors of this package."""


class ConfigError(InflucoderError):
    """A setting is wrong or does not fit another setting."""


class DataError(InflucoderError):
    """An input file or row cannot be used; the message names file and line."""


class ModelError(InflucoderError):
    """A decoder, adapter, tokenizer or encoder cannot be used as asked."""


class StoreError(InflucoderError):
    """A folder on disk cannot be read or written."""


class StoreIncomplete(StoreError):
    """The folder's run has not finished; resume it before reading."""


class StoreCorrupt(StoreError):
    """The folder's bytes are not those that were written."""


class StoreMismatch(StoreError):
    """The folder was made with other settings, data or model than the ones given."""


class WorkerError(InflucoderError):
    """A process or actor that shares the work died, and so did those that took its place."""


class MissingDependency(InflucoderError):
    """An optional package is not installed; the message holds the pip command."""


def first_line(error: Exception) -> str:
    """What another library's error says, in a line; its class when it says nothing."""
    first, *following = str(error).strip().splitlines() or [type(error).__name__]
    return f"{first} {following[0].strip()}" if first.endswith(":") and following else first


def some_of(names: Collection[str]) -> str:
    """The first three of some names, and how many more there are.

    >>> some_of(["d", "c", "b", "a"])
    'a, b, c and 1 more'
    """
    return ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def refuse_below(settings: object, **least: int) -> None:
    """Refuse settings of which a number is below the least that makes sense.

    Raises:
        ConfigError: one is; the message names it.
    """
    for name, low in least.items():
        if getattr(settings, name) < low:
            raise ConfigError(f"{name} is {getattr(settings, name)}, expected at least {low}.")
