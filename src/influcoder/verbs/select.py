"""The verb `select`: which rows of a pool to keep, by their influence on some queries."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from influcoder.attribution.kept_rows import Format
from influcoder.attribution.orders import By
from influcoder.attribution.rule import Rule
from influcoder.attribution.search import asked_vectors
from influcoder.attribution.selection import Selection
from influcoder.attribution.selection_folder import write_folder
from influcoder.attribution.token_mask import counts, masks_of_kept
from influcoder.data.columns import data_fingerprint
from influcoder.data.examples import Example
from influcoder.indexes.index import Index
from influcoder.model.decoder import Decoder
from influcoder.store.files import write_json
from influcoder.store.output_folder import Folder
from influcoder.student.encoder_folder import teacher_of
from influcoder.verbs.opening import (
    AnyCheckpoints,
    AnyDecoder,
    AnyIndex,
    Rows,
    open_any_index,
    open_asking_teacher,
    open_whole_index,
    read_rows,
)


def select(
    index: AnyIndex,
    queries: Rows,
    *,
    top: float | None = None,
    drop: float | None = None,
    threshold: float | None = None,
    rows: int | None = None,
    tokens: int | None = None,
    by: By = "mean",
    against: Rows | None = None,
    unwanted: bool = False,
    distinct: float | None = None,
    cap: str | Sequence[str] = (),
    quota: str | Sequence[str] = (),
    decoder: AnyDecoder | None = None,
    adapter: str | Path | None = None,
    checkpoints: AnyCheckpoints | None = None,
) -> Selection:
    """Keep pool examples by their influence on some queries, within exactly one budget.

    Args:
        index: its folder, or the loaded `Index`.
        queries: files, a list of rows or of `Example`s, or a `datasets.Dataset`: the behaviour that is wanted.
        top: keep this share (0 to 1) of the rows, those that score highest.
        drop: leave this share of highest scores out, where the queries show what is unwanted.
        threshold: keep scores of at least this.
        rows: keep so many rows.
        tokens: keep rows of so many tokens together, prompt and completion, by the encoder's tokenizer.
        by: how the queries' scores become one: their "mean", their "max", "round-robin" (queries take turns) or
            "diverse" (rows first that add to the queries that have least).
        against: control queries: a score is then the influence on the queries less the mean influence on these.
        unwanted: the queries show what is unwanted: the lowest scores are kept, within the budget.
        distinct: leave out rows whose text is as similar as this to that of a kept one (estimated Jaccard similarity of
            their runs of three words, 0 to 1; 0.8 is usual).
        cap: at most so much of a column's values, as "source=20%" of the budget for each value, "source=500" rows, or
            "source=web:10%" for one; several in a list.
        quota: the best rows of a value first, as "genre=code:30%" of the budget; several in a list.
        decoder: the one that the encoder was distilled from: the queries' own gradients are then used, which choose
            better than their text, and an encoder of the short or forward tier needs it.
        adapter: a LoRA adapter of a decoder that is not loaded yet.
        checkpoints: those that the teacher took gradients from, if any.

    Returns:
        A `Selection`: `kept` and `rejected` rows with scores and reasons, `counts`, `rethreshold` for another rule,
        `to_dataset` for the kept rows in their own columns, `save`.

    Raises:
        ConfigError: not exactly one budget, or a share that is none; or the index is in LanceDB.
        DataError, StoreError: queries or index cannot be read.
        StoreMismatch: the decoder is not the one that the encoder was distilled from.

    >>> import influcoder
    >>> selection = influcoder.select("index", "queries.jsonl", top=0.1)
    >>> len(selection.kept), len(selection.rejected), selection.to_dataset().column_names
    (6, 54, ['id', 'prompt', 'completion'])
    >>> influcoder.select("index", "queries.jsonl", rows=9, by="round-robin", distinct=0.8).counts()["kept"]
    9
    """
    rule = Rule(top, drop, threshold, rows, tokens, unwanted, distinct, cap, quota)
    opened, loaded = open_any_index(index, decoder, adapter)
    index = open_whole_index(opened)
    examples = read_rows(queries, "queries", loaded)
    teacher = open_asking_teacher(index.encoder, loaded, checkpoints)
    made_by = {
        "encoder": index.encoder.fingerprint,
        "queries": data_fingerprint(examples),
        "asked": "text" if teacher is None else "gradient",
    }
    vectors = asked_vectors(index, examples, teacher)
    if against is not None:
        control = read_rows(against, "against", loaded)
        made_by["against"] = data_fingerprint(control)
        vectors = vectors - asked_vectors(index, control, teacher).mean(axis=0)
    if by == "mean":  # of inner products: the inner product with the mean
        vectors = vectors.mean(axis=0, keepdims=True)
    return Selection.of(index, index.scores(vectors), rule, by, made_by)


@dataclass(frozen=True, slots=True)
class Mask:
    """A loss mask of a selection's kept rows, by real gradients: `influcoder.attribution.token_mask`.

    Attributes:
        share: of their tokens that is masked at most.
        queries, against: by which the rows were selected.
        decoder: the one that the encoder was distilled from.
    """

    share: float
    queries: Sequence[Example]
    against: Sequence[Example] | None
    decoder: Decoder

    def of(self, selection: Selection, index: Index) -> list[list[int]]:
        """A list for each kept row.

        Raises:
            StoreMismatch: it is another decoder.
            ConfigError: the teacher's influence is no sum over tokens.
        """
        teacher = teacher_of(index.encoder, self.decoder)
        unwanted = Rule.read(selection.made_by["rule"]).keeps_lowest
        return masks_of_kept(
            teacher, index, selection.is_kept, self.queries, self.share, against=self.against, unwanted=unwanted
        )


def write_selection(
    selection: Selection, folder: Folder, form: Format = "jsonl", *, mask: Mask | None = None
) -> dict[str, Any]:
    """Write a selection, the rows that it keeps and its numbers into a folder.

    Args:
        mask: masks tokens of the kept rows, if given.
    """
    index = selection.open_index()
    with folder.claim() as path:
        masks = None if mask is None else mask.of(selection, index)
        write_folder(selection, index, path, form, masks=masks)
        metrics = selection.counts()
        if masks is not None:
            metrics["masked_tokens"] = counts(masks)
        write_json(path / "metrics.json", metrics)
    return metrics
