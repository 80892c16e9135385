"""A teacher's features of many examples, as a store."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import safetensors
import safetensors.torch
from torch import Tensor

from influcoder.atomic import atomic_write
from influcoder.errors import ModelError, StoreCorrupt
from influcoder.examples import Example, data_fingerprint, to_columns
from influcoder.progress import progress
from influcoder.runners import Share
from influcoder.store import Shard, Store, StoreWriter, refuse_difference
from influcoder.teachers.features import Features, Role, Teacher

SHARD_ROWS = 256
FITTED = "teacher.safetensors"
"""what a teacher learnt, beside the stores it made"""


def write_features(
    teacher: Teacher,
    examples: Sequence[Example],
    role: Role,
    folder: Path,
    *,
    max_reject_rate: float = 0.01,
    share: Share = Share(),  # noqa: B008 - frozen
) -> Store | None:
    """Write the features of `examples` as a store; goes on where an earlier run stopped.

    Args:
        max_reject_rate: rows whose gradient is not finite are kept as zeros, flagged, and left out by readers;
            above this share of them the job stops.
        share: which shards are this process's to make. The store is returned by the one that finds it complete.

    Raises:
        ModelError: too many gradients are not finite; the message names the first.
    """
    writer = StoreWriter(
        folder,
        kind="features",
        dim=teacher.dim,
        dtype="float16",
        ids=[example.id for example in examples],
        made_by=teacher.made_by | {"data": data_fingerprint(examples)},
        shard_rows=SHARD_ROWS,
        code=teacher.code if role == "pool" else None,
    )
    mine = [shard for shard in writer.missing() if share.has(shard.number)]
    rejected: list[str] = []
    with progress(f"features: {role}", sum(shard.stop - shard.start for shard in mine)) as advance:
        for shard in mine:
            part = examples[shard.start : shard.stop]
            found = teacher.features(part, role, advance)
            rejected += [one.id for one, bad in zip(part, found.rejected, strict=True) if bad]
            _refuse_many(rejected, len(examples), max_reject_rate)
            _write(writer, shard, part, found)
    if any(True for _ in writer.missing()):
        return None
    _refuse_many(_rejected(writer), len(examples), max_reject_rate)  # those of earlier runs and of others too
    return writer.finish()


def fitted(teacher: Teacher, pool: Sequence[Example], queries: Sequence[Example], folder: Path) -> None:
    """Let a teacher learn what it needs, or take it from an earlier run in `folder`.

    Raises:
        StoreMismatch: the earlier run had other settings, data or another model.
    """
    if not teacher.needs_fitting:
        return
    path = folder / FITTED
    made_by = {name: value for name, value in teacher.made_by.items() if name != "fitted"}
    made_by |= {"data": data_fingerprint(pool), "queries": data_fingerprint(queries)}
    if path.exists():
        state = read_fitted(folder)
        with safetensors.safe_open(path, "pt") as file:
            earlier = json.loads((file.metadata() or {}).get("made_by", "{}"))
        refuse_difference(f"{path}: cannot go on with what was learnt", earlier, made_by)
        teacher.load(state)
        return
    with progress("learning the curvature", 1) as advance:
        teacher.fit(pool, queries)
        advance(1)
    atomic_write(path, safetensors.torch.save(teacher.state(), {"made_by": json.dumps(made_by)}))


def read_fitted(folder: Path) -> dict[str, Tensor]:
    """What a teacher learnt, from the folder of its features; nothing where it learns nothing.

    Raises:
        StoreCorrupt: it is damaged.
    """
    path = folder / FITTED
    if not path.exists():
        return {}
    try:
        return dict(safetensors.torch.load_file(path))
    except (safetensors.SafetensorError, OSError) as error:
        raise StoreCorrupt(f"{path}: cannot be read ({error}). Make the features again.") from error


def _rejected(writer: StoreWriter) -> list[str]:
    found: list[str] = []
    for shard in writer.shards:
        table = pq.read_table(writer.folder / f"{shard.name}.parquet", columns=["id", "rejected"])
        found += table.filter(table["rejected"])["id"].to_pylist()
    return found


def _refuse_many(rejected: Sequence[str], examples: int, max_reject_rate: float) -> None:
    if len(rejected) > max_reject_rate * examples:
        raise ModelError(
            f"{len(rejected)} of {examples} gradients are not finite, {rejected[0]!r} among them: more than "
            f"--max-reject-rate {max_reject_rate:g}. Use --precision fp32, or leave these rows out."
        )


def _write(writer: StoreWriter, shard: Shard, part: Sequence[Example], found: Features) -> None:
    lengths = np.linalg.norm(found.vectors, axis=1)
    # Unit rows fit half precision, whatever the size of the gradients; `scale` gives them back.
    vectors = found.vectors / np.maximum(lengths, 1e-30)[:, None]
    columns = {
        "norm": found.norms,
        "loss": found.losses,
        "scale": lengths,
        "rejected": found.rejected,
        **found.columns,
        **to_columns(part),
    }
    writer.write(shard, vectors, columns)
