"""The verbs of the command line as functions: folders in, folders out.

Each writes into one output folder, which it claims (`influcoder.store.output_folder.claim`), and leaves its numbers in
`metrics.json` there.
"""

from collections.abc import Sequence
from typing import Any

from influcoder.attribution.search import Hits, Searchable
from influcoder.attribution.search import search as search_index
from influcoder.attribution.selection import Selection
from influcoder.data.examples import Example
from influcoder.errors import ConfigError
from influcoder.indexes.index import Index
from influcoder.model.decoder import Decoder
from influcoder.store.files import write_json
from influcoder.store.output_folder import Folder
from influcoder.student.encoder_folder import teacher_of
from influcoder.teachers.checkpoints import Checkpoint


def search(
    index: Searchable,
    queries: Sequence[Example],
    *,
    k: int,
    opponents: bool,
    verify: int,
    decoder: Decoder | None,
    checkpoints: Sequence[Checkpoint] = (),
    where: str | None = None,
    approximate: bool = False,
) -> list[Hits]:
    """Proponents or opponents of each query; with a decoder, from real query gradients."""
    teacher = None if decoder is None else teacher_of(index.encoder, decoder, checkpoints)
    return search_index(
        index, queries, k=k, opponents=opponents, verify=verify, teacher=teacher, where=where, approximate=approximate
    )


def select(
    index: Index,
    queries: Sequence[Example],
    folder: Folder,
    *,
    top: float | None = None,
    drop: float | None = None,
    threshold: float | None = None,
) -> dict[str, Any]:
    """Keep pool rows by their mean influence on `queries`: exactly one rule of `top`, `drop`, `threshold`."""
    if sum(rule is not None for rule in (top, drop, threshold)) != 1:
        raise ConfigError("give exactly one of --top, --drop and --threshold.")
    # A mean of inner products is the inner product with the mean.
    scores = index.scores(index.encoder.encode_query(queries).mean(axis=0, keepdims=True))[0]
    if top is not None:
        selection = Selection.top(index.ids, scores, share=top)
    elif drop is not None:
        selection = Selection.drop(index.ids, scores, share=drop)
    else:
        selection = Selection.above(index.ids, scores, threshold=float(threshold or 0))
    with folder.claim() as path:
        selection.save(path / "selection.parquet")
        metrics = {"rows": len(index), "kept": len(selection.kept_ids), "rule": selection.rule}
        write_json(path / "metrics.json", metrics)
    return metrics
