"""The verb `features` as a function: it fills a features folder, which it claims, and leaves its numbers there."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from influcoder.data.examples import Example
from influcoder.data.sampling import draw
from influcoder.model.decoder import Decoder
from influcoder.runners.runner import InProcess, Runner
from influcoder.store.disk_space import held_bytes, refuse_full_disk
from influcoder.store.files import write_json
from influcoder.store.output_folder import Folder, local
from influcoder.student.decoder_tables import DecoderTables, bytes_of_tables, write_decoder_tables
from influcoder.student.few_questions import ASKED, FEW, MOST_ASKED
from influcoder.teachers.check import check_teacher
from influcoder.teachers.fitted import fitted
from influcoder.teachers.make import make_teacher
from influcoder.teachers.memorised import counted, in_words
from influcoder.teachers.settings import TeacherSettings
from influcoder.teachers.teacher import Teacher
from influcoder.teachers.write import RoleExamples, bytes_to_write, write_sides
from influcoder.verbs.opening import (
    AnyCheckpoints,
    AnyDecoder,
    Rows,
    open_checkpoints,
    open_decoder,
    read_rows,
    stream_rows,
)

logger = logging.getLogger("influcoder")


def features(
    decoder: AnyDecoder,
    queries: Rows,
    pool: Rows,
    folder: Folder,
    settings: TeacherSettings,
    *,
    adapter: str | Path | None = None,
    checkpoints: AnyCheckpoints | None = None,
    max_length: int = 1024,
    sample: int | None = None,
    reliable: bool = True,
    max_reject_rate: float = 0.01,
    runner: Runner = InProcess(),  # noqa: B008 - holds nothing
) -> dict[str, Any]:
    """Write the teacher features of queries and pool, and the decoder's table for the static student.

    It first checks that they fit on the disk and that the gradients of this model are right, and measures how well the
    teacher agrees with itself.

    Args:
        sample: how many pool rows are drawn, by the seed of `settings`; all of them when omitted.
        reliable: measure how well the teacher agrees with itself, which takes some hundred gradients.
        runner: who makes the shards.
    """
    saved = open_checkpoints(checkpoints, decoder, max_length)
    decoder = open_decoder(decoder, adapter, max_length, folder.share.device())
    queries = read_rows(queries, "queries", decoder)
    pool = sampled(pool, sample, settings.seed, decoder)
    teacher = make_teacher(decoder, settings, checkpoints=saved)
    with folder.claim() as path:
        refuse_full_disk(path, bytes_of_features(teacher, queries, pool) - held_bytes(path))
        facts = check_teacher(decoder, queries, pool, settings, saved, reliable=reliable)
        fitted(teacher, pool, queries, path)
        sides = [RoleExamples("query", queries, path / "queries"), RoleExamples("pool", pool, path / "pool")]
        written = write_sides(teacher, sides, max_reject_rate=max_reject_rate, share=folder.share, runner=runner)
        stores = dict(zip(("queries", "pool"), written, strict=True))
        if len(queries) < FEW and settings.roles_differ:
            as_queries = RoleExamples("query", draw(pool, MOST_ASKED, settings.seed).examples, path / ASKED)
            write_sides(teacher, [as_queries], max_reject_rate=max_reject_rate, share=folder.share, runner=runner)
        if folder.share.index == 0:
            write_decoder_tables(DecoderTables.of(decoder), path)
        flags = {
            f"{side}_{flag}": int(np.sum(store.columns[flag].to_numpy()))
            for side, store in stores.items()
            if store is not None
            for flag in ("prompt_cut", "completion_cut", "no_gradient", "rejected")
        }
        metrics = {"queries": len(queries), "pool": len(pool), "teacher": teacher.provenance.json(), **facts, **flags}
        if stores["pool"] is not None:
            metrics["memorised"] = counted(*(stores["pool"].columns[name].to_numpy() for name in ("loss", "norm")))
            if metrics["memorised"]["rows"]:
                logger.warning("%s", in_words(metrics["memorised"]))
        if decoder.tokeniser.left_out:  # counted where the rows were read
            metrics["left_out"] = dict(decoder.tokeniser.left_out)
        if base := _hub_id(decoder):
            metrics["base_model"] = base
        if folder.share.count > 1:
            metrics["unfinished"] = [side for side, store in stores.items() if store is None]
        write_json(path / folder.share.named("metrics.json"), metrics)
    return metrics


def sampled(pool: Rows, sample: int | None, seed: int, decoder: Decoder) -> list[Example]:
    """The pool, or `sample` of its rows; only these are held in memory."""
    if sample is None:
        return read_rows(pool, "pool", decoder)
    return draw(stream_rows(pool, "pool", decoder), sample, seed).examples


def _hub_id(decoder: Decoder) -> str | None:
    """The name of a decoder that came from the hub; its adapter's base where it has one."""
    name = str(decoder.model.config.name_or_path)
    return name if decoder.fingerprint.revision and not local(name) else None


def bytes_of_features(teacher: Teacher, queries: Sequence[Example], pool: Sequence[Example]) -> int:
    """About how many bytes `features` writes: both stores and the decoder's tables."""
    stores = bytes_to_write(teacher, queries, "query") + bytes_to_write(teacher, pool, "pool")
    return stores + bytes_of_tables(teacher.decoder)
