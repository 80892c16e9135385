"""What a teacher learnt before its features, kept beside the stores it made, so that every process has the same."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from influcoder.data.columns import data_fingerprint
from influcoder.data.examples import Example
from influcoder.errors import StoreCorrupt
from influcoder.progress import progress
from influcoder.store.files import atomic_write
from influcoder.store.store import refuse_difference
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


def _learnt(source: Path, made_by: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """What the teacher of some features learnt, refused where it is not what they were made with."""
    if "fitted" not in made_by:
        return {}
    state = read_fitted(source)
    if hashlib.sha256(safetensors.torch.save(state)).hexdigest() != made_by["fitted"]:
        raise StoreCorrupt(
            f"{source / 'teacher.safetensors'}: missing, or not what these features were made with. Remove it and run "
            "`influcoder features` again with --resume."
        )
    return state
