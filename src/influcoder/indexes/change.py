"""Changes a finished index: appends rows, or removes some."""

from collections.abc import Iterable, Sequence
from typing import Any

from influcoder.data.examples import Example
from influcoder.indexes import build
from influcoder.indexes.index import Index
from influcoder.store.files import read_json, write_json
from influcoder.store.output_folder import Folder


def change(
    index: Index, *, add: Iterable[Example] | None = None, remove: Sequence[str] = (), approximate: bool = False
) -> tuple[Index, dict[str, Any]]:
    """Append rows to an index, or remove some; a reader sees it as it was before or as it is after, nothing between.

    A stopped run can be started again with the same arguments. A known id is not added again; to replace a row, remove
    it first.

    Args:
        add: examples to embed and append.
        remove: ids whose vectors, texts and metadata are deleted from disk.
        approximate: make the IVF-PQ index, of the rows after the change.

    Returns:
        The index as it is now, and how many rows it has, and were added and removed.
    """
    with Folder(index.folder, resume=True).claim() as path:
        counts: dict[str, int] = {}
        if remove:
            index.approximate.delete()  # it holds the rows to remove
            counts |= build.remove(index.store, remove)[1]
        if add is not None:
            counts |= build.add(index.reopened().store, index.encoder, add)[1]
        changed = index.reopened()
        metrics = {"rows": len(changed)} | counts | made_searchable(changed, approximate)
        earlier = read_json(path / "metrics.json", "Delete it.") if (path / "metrics.json").exists() else {}
        write_json(path / "metrics.json", earlier | metrics)
    return changed, metrics


def made_searchable(index: Index, approximate: bool) -> dict[str, Any]:
    """Make the IVF-PQ index if asked, otherwise the exact FAISS index of a small pool; returns its metrics."""
    if approximate:
        return {"approximate": index.approximate.make(index, index.query_vectors())}
    index.approximate.refresh(index)
    return {}
