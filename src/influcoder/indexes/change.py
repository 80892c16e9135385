"""Changes a finished index: appends rows, or forgets some."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from influcoder.data.examples import Example
from influcoder.indexes import build
from influcoder.indexes.build import ASKED
from influcoder.indexes.index import Index
from influcoder.store.files import read_json, write_json
from influcoder.store.output_folder import Folder


def change(
    index: Index, *, add: Iterable[Example] | None = None, remove: Sequence[str] = (), approximate: bool = False
) -> tuple[Index, dict[str, Any]]:
    """Append rows to an index, or forget some; a reader sees it as it was or as it is, nothing between.

    A run that was stopped is started again with the same arguments. An id that is there is not added again; to
    replace a row, remove it first.

    Args:
        add: examples to embed and append.
        remove: ids whose vectors, texts and metadata are deleted from disk.
        approximate: make the IVF-PQ index, of what is there then.

    Returns:
        The index as it is now, and how many rows it has, and were added and removed.
    """
    with Folder(index.folder, resume=True).claim() as path:
        found: dict[str, Any] = {}
        if remove:
            index.approximate.forget()  # it holds what has to go
            _, removed = build.remove(index.store, remove)
            found |= removed
        if add is not None:
            _, added = build.add(index.reopened().store, index.encoder, add)
            found |= added
        changed = index.reopened()
        found = {"rows": len(changed)} | found | made_searchable(changed, approximate)
        earlier = read_json(path / "metrics.json", "Delete it.") if (path / "metrics.json").exists() else {}
        write_json(path / "metrics.json", earlier | found)
    return changed, found


def made_searchable(index: Index, approximate: bool) -> dict[str, Any]:
    """Make the FAISS index that a pool of its size, or the user, wants; returns what was measured of it."""
    if not approximate:
        index.approximate.refresh(index)
        return {}
    rows = np.linspace(0, len(index) - 1, min(ASKED, len(index))).astype(int)
    queries = index.encoder.encode_query(index.examples_at(rows))
    return {"approximate": index.approximate.make(index, queries)}
