"""The verb `index` as functions: make an index, change it. Its folder is claimed, and its numbers left there."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

from influcoder.data.examples import Example
from influcoder.errors import ConfigError
from influcoder.indexes import build as indexing
from influcoder.indexes.build import Choice
from influcoder.indexes.change import change, made_searchable
from influcoder.indexes.index import Index
from influcoder.indexes.refresh import refresh
from influcoder.runners.runner import InProcess, Runner
from influcoder.store.files import write_json
from influcoder.store.output_folder import Folder
from influcoder.verbs.opening import AnyDecoder, AnyEncoder, open_encoder, open_whole_index

CHOICES = [name for names in get_args(Choice) for name in get_args(names)]
"""of a code"""


def index(
    encoder: AnyEncoder,
    pool: Iterable[Example],
    folder: Folder,
    *,
    code: Choice = "auto",
    approximate: bool = False,
    runner: Runner = InProcess(),  # noqa: B008 - holds nothing
    decoder: AnyDecoder | None = None,
    adapter: str | Path | None = None,
) -> dict[str, Any]:
    """Embed `pool`, which may be a stream, and make it searchable.

    Args:
        code: how vectors are stored; "auto" takes the smallest that keeps the rankings of the first rows.
        approximate: make an IVF-PQ index beside it, which answers faster and may miss rows.
        runner: who makes the shards.

    Raises:
        ConfigError: no such code.
    """
    if code not in CHOICES:
        raise ConfigError(f"code is {code!r}, expected one of {', '.join(CHOICES)}.")
    encoder, _ = open_encoder(encoder, decoder, adapter)
    began = time.perf_counter()
    with folder.claim() as path:
        store, measured = indexing.build(encoder, pool, path, code=code, share=folder.share, runner=runner)
        if store is None:
            return {"unfinished": "other shards are still to be made; the last of them finishes the index"}
        built = Index(path, decoder=encoder.decoder)
        metrics: dict[str, Any] = {"rows": len(built), "dim": built.dim}
        metrics |= {"code": built.code.name, "bytes_per_example": built.code.bytes}
        metrics |= {"codes": measured} if measured else {}
        metrics["seconds"] = round(time.perf_counter() - began, 2)
        metrics |= made_searchable(built, approximate)
        write_json(path / "metrics.json", metrics)
    return metrics


def change_index(
    folder: Path,
    *,
    add: Iterable[Example] | None = None,
    remove: Sequence[str] = (),
    approximate: bool = False,
    decoder: AnyDecoder | None = None,
    adapter: str | Path | None = None,
) -> dict[str, Any]:
    """Append rows to a finished index, or remove some; a reader sees the index before or after, nothing between.

    Args and behaviour are those of `influcoder.indexes.change.change`.
    """
    return change(open_whole_index(folder, decoder, adapter), add=add, remove=remove, approximate=approximate)[1]


def refresh_index(
    folder: Path,
    *,
    encoder: AnyEncoder | None = None,
    pool: Iterable[Example] | None = None,
    approximate: bool = False,
    decoder: AnyDecoder | None = None,
    adapter: str | Path | None = None,
) -> dict[str, Any]:
    """Bring a finished index up to date; readers see the old one until the new one is complete.

    Args:
        encoder: the encoder that it gets; its own when omitted.
        pool, approximate: as of `influcoder.indexes.refresh.refresh`.
    """
    index = open_whole_index(folder, *(() if encoder else (decoder, adapter)))
    loaded = open_encoder(encoder, decoder, adapter)[0] if encoder else index.encoder
    return refresh(index, loaded, pool, approximate=approximate)[1]
