"""What a teacher learnt before its features, kept beside the stores it made, so that every process has the same."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from influcoder.data.columns import data_fingerprint
from influcoder.data.examples import Example
from influcoder.errors import StoreCorrupt
from influcoder.progress import progress
from influcoder.provenance import Provenance
from influcoder.store.files import atomic_write
from influcoder.teachers.teacher import Teacher

FITTED = "teacher.safetensors"


def fitted(teacher: Teacher, pool: Sequence[Example], queries: Sequence[Example], folder: Path) -> None:
    """Let a teacher learn what it needs, or take it from an earlier run in `folder`.

    Raises:
        StoreMismatch: the earlier run had other settings, data or another model.
    """
    if not teacher.needs_fitting:
        return
    path = folder / FITTED
    made = teacher.provenance
    made = replace(
        made,
        teacher=replace(made.teacher, fitted=None) if made.teacher else None,
        data=data_fingerprint(pool),
        queries=data_fingerprint(queries),
    )
    if path.exists():
        state = read_fitted(folder)
        with safetensors.safe_open(path, "pt") as file:
            earlier = json.loads((file.metadata() or {}).get("made_by", "{}"))
        what, remedy = f"{path}: cannot go on with what was learnt", "Use the same settings or give --overwrite."
        Provenance.read(earlier).refuse_other(made, what, remedy)
        teacher.load(state)
        return
    with progress("learning the curvature", 1) as advance:
        teacher.fit(pool, queries)
        advance(1)
    atomic_write(path, safetensors.torch.save(teacher.state(), {"made_by": json.dumps(made.json())}))


def read_fitted(folder: Path) -> dict[str, Tensor]:
    """What a teacher learnt, from the folder of its features; nothing where it learns nothing.

    Raises:
        StoreCorrupt: it is damaged.
    """
    return read_tensors(folder / FITTED)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file beside the stores of features; nothing where there is no such file.

    Raises:
        StoreCorrupt: it is damaged.
    """
    if not path.exists():
        return {}
    try:
        return dict(safetensors.torch.load_file(path))
    except (safetensors.SafetensorError, OSError) as error:
        raise StoreCorrupt(f"{path}: cannot be read ({error}). Make the features again.") from error


def learnt_by(folder: Path, provenance: Provenance) -> dict[str, Tensor]:
    """What the teacher of some features learnt, refused where it is not what they were made with.

    Raises:
        StoreCorrupt: it is missing or has changed.
    """
    if provenance.teacher is None or provenance.teacher.fitted is None:
        return {}
    state = read_fitted(folder)
    if hashlib.sha256(safetensors.torch.save(state)).hexdigest() != provenance.teacher.fitted:
        raise StoreCorrupt(
            f"{folder / FITTED}: missing, or not what these features were made with. Remove it and run "
            "`influcoder features` again with --resume."
        )
    return state
