"""Changes a finished store: new shards are written beside the old, then the manifest is replaced in one step.

A shard that the manifest does not name is ignored: a stopped run has left it. So a reader finds the store as it was
before a change or as it is after it, whenever the writer is killed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from influcoder.store.files import read_sealed, write_sealed
from influcoder.store.shards import is_there, source_of
from influcoder.store.store import FORMAT, Store


def left_over(folder: Path, name: str, source: str) -> bool:
    """Whether a stopped run has left exactly this shard, of the rows whose hash is `source`."""
    return is_there(folder, name) and source_of(folder, name) == source


def change(
    store: Store,
    shards: Sequence[Mapping[str, Any]],
    following: int,
    made: Mapping[str, Any] | None = None,
    *,
    keep_earlier: bool = False,
) -> Store:
    """Replace the shards of a store by others, in one step. Files of shards that it no longer has are deleted.

    Args:
        shards: their entries, in order.
        following: the number of the next shard; no number is used twice.
        made: other entries of the manifest that change.
        keep_earlier: keep the deleted shards for those who read the old store, until the next change.
    """
    facts = {"shards": list(shards), "rows": sum(shard["rows"] for shard in shards), "next": following, **(made or {})}
    manifest = {key: value for key, value in store.manifest.items() if key != "sha256"}
    write_sealed(store.folder / "manifest.json", manifest | facts | {"changes": manifest["changes"] + 1})
    sweep(store.folder, [shard["name"] for shard in store.manifest["shards"]] if keep_earlier else ())
    return Store(store.folder, lazily=True)


def sweep(folder: Path, kept: Sequence[str] = ()) -> None:
    """Delete the shards that the manifest does not name, except those in `kept`."""
    names = {*kept} | {shard["name"] for shard in read_sealed(folder / "manifest.json", FORMAT)["shards"]}
    for path in folder.glob("shard-*"):
        if path.name.split(".")[0] not in names:
            path.unlink(missing_ok=True)
