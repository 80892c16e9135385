"""Files on other machines: `hf://`, `s3://` and every other URL that fsspec reads."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from influcoder.errors import DataError, MissingDependency, first_line

_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file at a URL, with the `open`, `name` and `suffix` of a `Path`."""

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        return PurePosixPath(self.url).name

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.url).suffix

    @property
    def size(self) -> int | None:
        """Its size in bytes; None if the file system does not say."""
        system, path = _system(self.url)
        try:
            size: int | None = system.size(path)
        except Exception as error:  # every file system raises kinds of its own
            raise _unreachable(self.url, error) from error
        return size

    def open(self, mode: str = "rb") -> io.BufferedReader:
        """The file's bytes as a stream, fetched as they are read."""
        system, path = _system(self.url)
        try:
            return io.BufferedReader(system.open(path, mode), 1 << 20)
        except Exception as error:  # every file system raises kinds of its own
            raise _unreachable(self.url, error) from error


def find_remote(url: str, suffixes: Sequence[str]) -> list[RemoteFile]:
    """The readable files of a URL, a folder's URL or a URL with a glob, sorted.

    Raises:
        DataError: there are none, or it cannot be reached; the message says if a variable switches the network off.
        MissingDependency: the package that reads this kind of URL is not installed.
    """
    system, path = _system(url)
    missing = f"no such file, and no {', '.join(suffixes)} file below it"
    try:
        if any(character in path for character in "*?["):
            files = [name for name in system.glob(path) if system.isfile(name)]
            missing = "no file matches it"
        elif system.isfile(path):
            files = [path]
        else:
            files = [name for name in system.find(path) if name.endswith(tuple(suffixes))]
    except Exception as error:  # every file system raises kinds of its own
        raise _unreachable(url, error) from error
    if not files:
        raise DataError(f"{url}: {missing}.")
    return [RemoteFile(system.unstrip_protocol(name)) for name in sorted(files)]


def _system(url: str) -> tuple[Any, str]:
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        scheme = url.split("://")[0]
        package = _PACKAGES.get(scheme, scheme)
        raise MissingDependency(f"{url}: reading {scheme}:// needs another package: pip install {package}") from error
    except Exception as error:
        raise _unreachable(url, error) from error
    return system, path


def _unreachable(url: str, error: Exception) -> DataError:
    remedy = "Check the URL, the network and your credentials, or download it first."
    if url.startswith("hf://"):
        from huggingface_hub import constants

        remedy = (
            "HF_HUB_OFFLINE is set, so the hub is not asked: unset it, or download the files first (`hf download`)."
            if constants.HF_HUB_OFFLINE
            else "Check the name and the network; a private or gated repository needs your token in HF_TOKEN."
        )
    return DataError(f"{url}: cannot be read: {first_line(error).rstrip('.')}. {remedy}")
