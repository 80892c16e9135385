"""Changes a finished store: shards are written beside its own, then its manifest is replaced in one step.

A shard that no manifest names does not count: it is what a run that was stopped has left. So a reader finds the
store as it was before a change or as it is after it, at whatever moment the writer is killed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from influcoder.store.files import read_sealed, write_sealed
from influcoder.store.shards import is_there, source_of
from influcoder.store.store import FORMAT, Store


def left_over(folder: Path, name: str, source: str) -> bool:
    """Whether a stopped run has left this very shard, of the rows that `source` is the hash of."""
    return is_there(folder, name) and source_of(folder, name) == source


def change(
    store: Store,
    shards: Sequence[Mapping[str, Any]],
    following: int,
    made: Mapping[str, Any] | None = None,
    *,
    keep_earlier: bool = False,
) -> Store:
    """Let these shards, and no others, be the store: in one step. The files of the others are deleted.

    Args:
        shards: their entries, in order.
        following: the number of the next shard; none is used twice.
        made: what else the manifest says otherwise than before.
        keep_earlier: leave the files of the store as it was to its readers, until the next change.
    """
    facts = {"shards": list(shards), "rows": sum(one["rows"] for one in shards), "next": following, **(made or {})}
    manifest = {key: value for key, value in store.manifest.items() if key != "sha256"}
    write_sealed(store.folder / "manifest.json", manifest | facts | {"changes": manifest["changes"] + 1})
    sweep(store.folder, [shard["name"] for shard in store.manifest["shards"]] if keep_earlier else ())
    return Store(store.folder, lazily=True)


def sweep(folder: Path, kept: Sequence[str] = ()) -> None:
    """Delete the shards that the manifest does not name, but for some that are kept."""
    counted = {*kept} | {shard["name"] for shard in read_sealed(folder / "manifest.json", FORMAT)["shards"]}
    for path in folder.glob("shard-*"):
        if path.name.split(".")[0] not in counted:
            path.unlink(missing_ok=True)
