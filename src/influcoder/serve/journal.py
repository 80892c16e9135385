"""Selections and saved questions in SQLite: every action is on the disk before its request is answered.

A selection is a list of actions, and replaying them gives its marks. So an undo removes the last action, and after a
crash the disk holds the selection as it was after some action.
"""

import sqlite3
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from influcoder.attribution.token_mask import counts
from influcoder.errors import ConfigError, StoreCorrupt, StoreMismatch
from influcoder.maths.arrays import Floats

FILE, FORMAT = "explorer.sqlite", 2
WAITS = 10.0
"""seconds for another process that writes to the same file"""
SCHEMAS = (
    """
CREATE TABLE selection (id TEXT PRIMARY KEY, created TEXT, manifest TEXT, body TEXT, scores BLOB) STRICT;
CREATE TABLE action (
    selection TEXT REFERENCES selection(id) ON DELETE CASCADE, number INTEGER, made TEXT, body TEXT, rows BLOB,
    PRIMARY KEY (selection, number)
) STRICT;
CREATE TABLE question (id TEXT PRIMARY KEY, made TEXT, prompt TEXT, completion TEXT) STRICT;
    """,
    """
CREATE TABLE mask (
    selection TEXT PRIMARY KEY REFERENCES selection(id) ON DELETE CASCADE, kept TEXT, share REAL, masked INTEGER,
    tokens INTEGER, masks BLOB
) STRICT
    """,
)
"""what each format adds to the one before"""


@dataclass(frozen=True, slots=True)
class Record:
    """A selection as it is kept: the request that made it, and the score of every row if it has questions."""

    id: str
    created: str
    manifest: str
    body: dict[str, Any]
    scores: Floats | None


@dataclass(frozen=True, slots=True)
class Action:
    """Something that was done to a selection: marks of some rows, or another rule."""

    number: int
    body: dict[str, Any]
    rows: NDArray[np.int64]


class Journal:
    """The database in a folder, made if it is not there.

    Raises:
        ConfigError: the folder cannot be written.
        StoreMismatch: it is of another format.
    """

    def __init__(self, folder: Path) -> None:
        self._lock, path = threading.Lock(), folder / FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=WAITS, isolation_level=None, check_same_thread=False)
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                self._db.execute(f"PRAGMA {pragma}")
            with self._written():
                version = self._db.execute("PRAGMA user_version").fetchone()[0]
                if version < FORMAT:
                    for statement in ";".join(SCHEMAS[version:]).split(";"):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version = {FORMAT}")
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise _unwritable(folder, error) from error
            raise StoreCorrupt(f"{path}: is no database of selections ({error}). Move it away.") from error
        except OSError as error:
            raise _unwritable(folder, error) from error
        if version > FORMAT:
            raise StoreMismatch(f"{path}: format {version}, this version reads {FORMAT}. Give another --state-dir.")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def add(self, record: Record) -> None:
        """Keep a new selection."""
        scores = None if record.scores is None else _packed(record.scores, np.float32)
        row = (record.id, record.created, record.manifest, orjson.dumps(record.body).decode(), scores)
        with self._written():
            self._db.execute("INSERT INTO selection VALUES (?, ?, ?, ?, ?)", row)

    def names(self) -> list[str]:
        """The ids of all selections, the oldest first."""
        return [row[0] for row in self._read("SELECT id FROM selection ORDER BY created, id")]

    def get(self, name: str) -> Record | None:
        """A selection by its id."""
        rows = self._read("SELECT id, created, manifest, body, scores FROM selection WHERE id = ?", name)
        if not rows:
            return None
        name, created, manifest, body, packed = rows[0]
        scores = None if packed is None else np.frombuffer(zlib.decompress(packed), np.float32)
        return Record(name, created, manifest, orjson.loads(body), scores)

    def remove(self, name: str) -> None:
        """Remove a selection and its actions."""
        with self._written():
            self._db.execute("DELETE FROM selection WHERE id = ?", (name,))

    def act(self, name: str, body: dict[str, Any], rows: NDArray[np.int64]) -> None:
        """Add an action to a selection."""
        next_number = "1 + coalesce(max(number), 0)"
        values = (name, now(), orjson.dumps(body).decode(), _packed(rows, np.int64))
        with self._written():
            self._db.execute(
                f"INSERT INTO action SELECT ?1, {next_number}, ?2, ?3, ?4 FROM action WHERE selection = ?1", values
            )

    def undo(self, name: str) -> bool:
        """Remove the last action; False where there is none."""
        last = "(SELECT max(number) FROM action WHERE selection = ?1)"
        with self._written():
            cursor = self._db.execute(f"DELETE FROM action WHERE selection = ?1 AND number = {last}", (name,))
            return cursor.rowcount > 0

    def actions(self, name: str, after: int = 0) -> list[Action]:
        """The actions of a selection, in order, after that of some number."""
        sql = "SELECT number, body, rows FROM action WHERE selection = ? AND number > ? ORDER BY number"
        return [
            Action(number, orjson.loads(body), np.frombuffer(zlib.decompress(rows), np.int64))
            for number, body, rows in self._read(sql, name, after)
        ]

    def when(self, name: str, number: int) -> str:
        """When an action was done; "" if it was undone."""
        rows = self._read("SELECT made FROM action WHERE selection = ? AND number = ?", name, number)
        return str(rows[0][0]) if rows else ""

    def last(self, name: str) -> tuple[int, str]:
        """The number and time of the last action: they change with every action."""
        rows = self._read("SELECT number, made FROM action WHERE selection = ? ORDER BY number DESC LIMIT 1", name)
        return tuple(rows[0]) if rows else (0, "")

    def keep_mask(self, name: str, kept: str, share: float, masks: list[list[int]]) -> None:
        """Keep the loss mask of the rows that a selection keeps, in place of an earlier one.

        Args:
            kept: a hash of these rows.
        """
        values = (name, kept, share, *counts(masks).values(), zlib.compress(orjson.dumps(masks), 1))
        with self._written():
            self._db.execute("INSERT OR REPLACE INTO mask VALUES (?, ?, ?, ?, ?, ?)", values)

    def mask_facts(self, name: str) -> tuple[str, float, int, int] | None:
        """A selection's mask in numbers: the hash of its rows, its share, tokens that are masked, and all tokens."""
        rows = self._read("SELECT kept, share, masked, tokens FROM mask WHERE selection = ?", name)
        return tuple(rows[0]) if rows else None

    def mask(self, name: str) -> list[list[int]]:
        """The mask itself."""
        (row,) = self._read("SELECT masks FROM mask WHERE selection = ?", name)
        masks: list[list[int]] = orjson.loads(zlib.decompress(row[0]))
        return masks

    def save_question(self, name: str, prompt: str, completion: str) -> None:
        """Keep a question."""
        with self._written():
            self._db.execute("INSERT INTO question VALUES (?, ?, ?, ?)", (name, now(), prompt, completion))

    def remove_question(self, name: str) -> bool:
        """Remove a question; False where there is none."""
        with self._written():
            return self._db.execute("DELETE FROM question WHERE id = ?", (name,)).rowcount > 0

    def questions(self) -> list[tuple[str, str, str]]:
        """(id, prompt, completion) of all that are kept, the oldest first."""
        return [tuple(row) for row in self._read("SELECT id, prompt, completion FROM question ORDER BY made, id")]

    def _read(self, sql: str, *values: Any) -> list[Any]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    @contextmanager
    def _written(self) -> Iterator[None]:
        """The block as one transaction, on the disk when it ends."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")


def now() -> str:
    """The time, for a record."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _packed(numbers: Any, kind: Any) -> bytes:
    return zlib.compress(np.ascontiguousarray(numbers, kind).tobytes(), 1)


def _unwritable(folder: Path, error: Exception) -> ConfigError:
    return ConfigError(f"{folder}: selections cannot be kept there ({error}). Name another folder with --state-dir.")
