"""The FAISS index beside an index: an exact one of a small pool, for other tools; IVF-PQ of a large one, for speed.

    index.faiss    can be rebuilt from the shards at any time
    index.json     its SHA-256, the manifest it was made from, its kind, and the measured recall

FAISS files have no checksum and FAISS reads them without any check, so this one is read only if its hash is the one
that was recorded, and if it was made from the shards as they are now.
"""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
import orjson
from numpy.typing import NDArray

from influcoder.errors import ConfigError, StoreCorrupt, StoreMismatch
from influcoder.maths.arrays import Floats
from influcoder.progress import progress
from influcoder.store.files import atomic_file, sha256, write_json

if TYPE_CHECKING:
    from influcoder.indexes.index import Index

EXACT_ROWS = 100_000
"""a pool of at most so many rows gets an exact FAISS index when it is indexed"""
TRAINING_ROWS = 100_000
LEAST_RECALL = 0.9
SHORTLIST = 10
"""candidates per requested row; their exact scores choose among them"""


class Approximate:
    """`index.faiss` of an index's folder, and its record.

    Args:
        manifest: the hash of the manifest that it has to be made from.
    """

    def __init__(self, folder: Path, manifest: str) -> None:
        self.path, self.record = folder / "index.faiss", folder / "index.json"
        self._manifest = manifest

    def refresh(self, index: "Index") -> None:
        """Rebuild the exact FAISS index of a small pool if it is not that of the current shards."""
        if len(index) <= EXACT_ROWS and not self._current():
            flat = faiss.IndexScalarQuantizer(index.dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
            for vectors in index.parts():
                flat.add(vectors)
            self._write(flat, {"kind": "exact float16"})

    def make(self, index: "Index", queries: Floats, *, seed: int = 0) -> dict[str, Any]:
        """Make an IVF-PQ index; as many of its lists are searched as `LEAST_RECALL` of the ten best needs.

        Args:
            queries: (n, dim) to measure recall with, against exact search.

        Returns:
            Its kind, bytes per row, the lists searched, and the recall of the ten best at each number of lists tried.

        Raises:
            ConfigError: the pool is so small that exact search is the better choice.
        """
        rows = len(index)
        if rows < 39 * 256:
            raise ConfigError(f"the index has {rows} rows; IVF-PQ needs {39 * 256} to learn from. Search exactly.")
        lists = int(min(4 * np.sqrt(rows), rows / 39))
        kind = f"IVF{lists},PQ{_parts(index.dim)}"
        ivf: Any = faiss.index_factory(index.dim, kind, faiss.METRIC_INNER_PRODUCT)
        ivf.cp.seed = ivf.pq.cp.seed = seed
        with progress("training IVF-PQ", rows) as advance:
            ivf.train(_sample(index, seed))
            for vectors in index.parts():
                ivf.add(vectors)
                advance(len(vectors))
        truth, recall = index.search(queries, 10).rows, {}
        self.__dict__["_faiss"] = ivf
        for probes in (2**power for power in range(lists.bit_length())):
            ivf.nprobe = probes
            best = index.best_of(queries, self.shortlist(queries, SHORTLIST * 10), 10).rows
            recall[str(probes)] = float(np.mean([np.isin(a, b).mean() for a, b in zip(truth, best, strict=True)]))
            if recall[str(probes)] >= LEAST_RECALL:
                break
        facts = {"kind": kind, "bytes": pq_bytes(index.dim), "lists_searched": probes, "recall_at_10": recall}
        self._write(ivf, facts)
        return facts

    def shortlist(self, queries: Floats, size: int, *, opponents: bool = False) -> NDArray[np.int64]:
        """(n_queries, size) rows of about the highest inner product with each query, or the lowest for `opponents`.

        Raises:
            StoreMismatch: there is none, or rows were added or removed since.
            StoreCorrupt: it is not what was written.
        """
        index, sign = self._faiss, np.float32(-1 if opponents else 1)
        size, probes = min(size, index.ntotal), getattr(index, "nprobe", 0)
        rows = index.search(sign * queries, size)[1]
        while (rows < 0).any():  # the searched lists hold too few rows
            index.nprobe *= 2
            rows = index.search(sign * queries, size)[1]
        if probes:
            index.nprobe = probes
        return np.asarray(rows, np.int64)

    @cached_property
    def _faiss(self) -> Any:
        if not self._current():
            raise StoreMismatch(
                f"{self.path}: missing, or of other rows than the index has now. Make it with `influcoder index "
                "--approximate`, or search without --approximate."
            )
        self.verify()
        return faiss.read_index(str(self.path))

    def verify(self) -> None:
        """Check the hash of `index.faiss`, where there is one.

        Raises:
            StoreCorrupt: it is not what was written.
        """
        if self.path.exists() and self.record.exists() and sha256(self.path) != self._recorded()["sha256"]:
            raise StoreCorrupt(f"{self.path}: its bytes are not those that were written. Delete it: it is made again.")

    def delete(self) -> None:
        """Delete it, before the rows that it was made from are deleted."""
        self.path.unlink(missing_ok=True)
        self.record.unlink(missing_ok=True)

    def _current(self) -> bool:
        return self.path.exists() and self.record.exists() and self._recorded()["manifest"] == self._manifest

    def _recorded(self) -> dict[str, Any]:
        try:
            record = orjson.loads(self.record.read_bytes())
            return {"sha256": record["sha256"], "manifest": record["manifest"]}
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise StoreCorrupt(f"{self.record}: not the record of an index. Delete it: it is made again.") from error

    def _write(self, index: Any, facts: dict[str, Any]) -> None:
        self.delete()
        with atomic_file(self.path) as file:
            faiss.write_index(index, file.name)
        write_json(self.record, facts | {"sha256": sha256(self.path), "manifest": self._manifest})
        self.__dict__.pop("_faiss", None)


def pq_bytes(dim: int) -> int:
    """Bytes per row of IVF-PQ: one for each part of its vector, and the row number."""
    return _parts(dim) + 8


def _parts(dim: int) -> int:
    return max(parts for parts in range(1, dim // 2 + 1) if dim % parts == 0)


def _sample(index: "Index", seed: int) -> Floats:
    """Vectors of rows from all over the pool."""
    rng, share = np.random.default_rng(seed), min(1.0, TRAINING_ROWS / len(index))
    sample = []
    for vectors in index.parts():
        chosen = np.sort(rng.choice(len(vectors), max(1, round(share * len(vectors))), replace=False))
        sample.append(vectors[chosen])
    return np.concatenate(sample)
