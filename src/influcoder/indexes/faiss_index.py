"""The FAISS index beside an index: an exact one of a small pool, for other tools; IVF-PQ of a large one, for speed.

    index.faiss    can be made again from the shards at any time
    index.json     its SHA-256, the manifest it was made from, its kind, and the recall that was measured

FAISS files carry no checksum and are read without any check, so this one is read only if it is the one that was
written, and for the shards as they are now.
"""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import faiss
import numpy as np
import orjson
from numpy.typing import NDArray

from influcoder.errors import ConfigError, StoreCorrupt, StoreMismatch
from influcoder.indexes.scan import Found
from influcoder.maths.arrays import Floats
from influcoder.progress import progress
from influcoder.store.files import atomic_file, sha256, write_json

EXACT_ROWS = 100_000
"""a pool of at most so many gets an exact FAISS index as it is made"""
TRAINING_ROWS = 100_000
LEAST_RECALL = 0.9
SHORTLIST = 10
"""rows that it names for each that is asked for; their exact scores choose among them"""
ASKED = 100


class Rows(Protocol):
    """The rows that it is made of, and the exact search that it is compared with: an `Index`."""

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        ...

    def __len__(self) -> int: ...

    def parts(self) -> Iterator[Floats]:
        """The vectors of all rows in order, some at a time, (rows, dim)."""
        ...

    def search(self, queries: Floats, k: int) -> Found:
        """The `k` rows of highest score for each query, (n, dim)."""
        ...

    def best_of(self, queries: Floats, rows: NDArray[np.int64], k: int) -> Found:
        """The `k` best of some rows of each query, (n_queries, rows)."""
        ...


class Approximate:
    """`index.faiss` of an index's folder, and what is known of it.

    Args:
        manifest: the seal of the manifest that it has to be made from.
    """

    def __init__(self, folder: Path, manifest: str) -> None:
        self.path, self.record = folder / "index.faiss", folder / "index.json"
        self._manifest = manifest

    def refresh(self, rows: Rows) -> None:
        """Make the exact FAISS index of a small pool again where it is not that of the shards as they are."""
        if len(rows) <= EXACT_ROWS and not self._current():
            flat = faiss.IndexScalarQuantizer(rows.dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
            for vectors in rows.parts():
                flat.add(vectors)
            self._write(flat, {"kind": "exact float16"})

    def make(self, rows: Rows, queries: Floats, *, seed: int = 0) -> dict[str, Any]:
        """Make an IVF-PQ index; as many of its lists are searched as `LEAST_RECALL` of the ten best takes.

        Args:
            queries: (n, dim) to measure recall with, against exact search.

        Returns:
            Its kind, bytes a row, the lists searched, and the recall of the ten best at every number of lists tried.

        Raises:
            ConfigError: the pool is so small that exact search is the better choice.
        """
        if len(rows) < 39 * 256:
            raise ConfigError(f"the index has {len(rows)} rows; IVF-PQ needs {39 * 256} to learn from. Search exactly.")
        lists = int(min(4 * np.sqrt(len(rows)), len(rows) / 39))
        parts = _parts(rows.dim)
        made: Any = faiss.index_factory(rows.dim, f"IVF{lists},PQ{parts}", faiss.METRIC_INNER_PRODUCT)
        made.cp.seed = made.pq.cp.seed = seed
        with progress("training IVF-PQ", len(rows)) as advance:
            made.train(_sample(rows, seed))
            for vectors in rows.parts():
                made.add(vectors)
                advance(len(vectors))
        truth, tried = rows.search(queries, 10), {}
        self.__dict__["_made"] = made
        for probes in (2**power for power in range(lists.bit_length())):
            made.nprobe = probes
            found = rows.best_of(queries, self.shortlist(queries, SHORTLIST * 10), 10)
            tried[probes] = float(np.mean([np.isin(a, b).mean() for a, b in zip(truth.rows, found.rows, strict=True)]))
            if tried[probes] >= LEAST_RECALL:
                break
        facts = {
            "kind": f"IVF{lists},PQ{parts}",
            "bytes": pq_bytes(rows.dim),
            "lists_searched": probes,
            "recall_at_10": {str(name): value for name, value in tried.items()},
        }
        self._write(made, facts)
        return facts

    def shortlist(self, queries: Floats, size: int, *, opponents: bool = False) -> NDArray[np.int64]:
        """(n_queries, size) rows of about the highest inner product with each query, or the lowest for `opponents`.

        Raises:
            StoreMismatch: there is none, or rows were added or removed since.
            StoreCorrupt: it is not what was written.
        """
        made, sign = self._made, np.float32(-1 if opponents else 1)
        size, probes = min(size, made.ntotal), getattr(made, "nprobe", 0)
        rows = made.search(sign * queries, size)[1]
        while (rows < 0).any():  # the lists that were searched hold too few
            made.nprobe *= 2
            rows = made.search(sign * queries, size)[1]
        if probes:
            made.nprobe = probes
        return np.asarray(rows, np.int64)

    @cached_property
    def _made(self) -> Any:
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

    def forget(self) -> None:
        """Delete it, before the rows that it was made from are."""
        self.path.unlink(missing_ok=True)
        self.record.unlink(missing_ok=True)

    def _current(self) -> bool:
        return self.path.exists() and self.record.exists() and self._recorded()["manifest"] == self._manifest

    def _recorded(self) -> dict[str, Any]:
        try:
            found = orjson.loads(self.record.read_bytes())
            return {"sha256": found["sha256"], "manifest": found["manifest"]}
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise StoreCorrupt(f"{self.record}: not the record of an index. Delete it: it is made again.") from error

    def _write(self, made: Any, facts: dict[str, Any]) -> None:
        self.forget()
        with atomic_file(self.path) as file:
            faiss.write_index(made, file.name)
        write_json(self.record, facts | {"sha256": sha256(self.path), "manifest": self._manifest})
        self.__dict__.pop("_made", None)


def pq_bytes(dim: int) -> int:
    """What IVF-PQ keeps of a row, in bytes: a byte a part of its vector, and its number."""
    return _parts(dim) + 8


def _parts(dim: int) -> int:
    return max(one for one in range(1, dim // 2 + 1) if dim % one == 0)


def _sample(rows: Rows, seed: int) -> Floats:
    """Vectors of rows from all over the pool."""
    rng, share = np.random.default_rng(seed), min(1.0, TRAINING_ROWS / len(rows))
    sample = []
    for vectors in rows.parts():
        chosen = np.sort(rng.choice(len(vectors), max(1, round(share * len(vectors))), replace=False))
        sample.append(vectors[chosen])
    return np.concatenate(sample)
