"""The verb `evaluate` as a function: an encoder on features of data it has never seen."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from influcoder.data.examples import normalised
from influcoder.evaluation.evaluate import evaluate as judge
from influcoder.evaluation.scorers import (
    Bm25,
    EncoderScorer,
    ExactQueryScorer,
    Random,
    Scorer,
    Surface,
    TeacherScorer,
    Tfidf,
)
from influcoder.model.decoder import Decoder
from influcoder.store.files import write_json
from influcoder.store.output_folder import Folder
from influcoder.store.store import refuse_difference
from influcoder.student.backbone import sentence_transformer
from influcoder.student.decoder_tables import check_decoder_tables
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.encoder_folder import teacher_of
from influcoder.student.sample import _teacher_of, load_sample, refuse_seen, refuse_trained_on, split_sample
from influcoder.teachers.checkpoints import Checkpoint
from influcoder.teachers.fitted import _learnt
from influcoder.teachers.make import make_teacher, teacher_again


def evaluate(
    encoder_folder: Path,
    source: Path,
    folder: Folder,
    *,
    train: Path | None = None,
    decoder: Decoder | None = None,
    checkpoints: Sequence[Checkpoint] = (),
    seed: int = 0,
) -> dict[str, Any]:
    """Judge an encoder on features of data it has never seen, beside every rival that can be run.

    Args:
        source: the features folder to test on.
        train: the features folder the encoder was distilled from: fits `surface` on it.
        decoder: runs the teacher with another seed (`exact`) and gives exact queries.

    Raises:
        DataError: the test holds examples the encoder was trained on, or `train` does.
        StoreMismatch: the decoder is not the one the features in `source` come from.
    """
    made_by = _teacher_of(source)
    teacher = None
    if decoder is not None:
        what = f"the features in {source} were computed"
        teacher = teacher_again(made_by, _learnt(source, made_by), decoder, checkpoints=checkpoints, what=what)
    encoder = InfluenceEncoder.load(encoder_folder, decoder=decoder)
    there, now = (
        {key: one.get(key) for key in ("teacher", "decoder", "tokenizer")} for one in (encoder.made_by, made_by)
    )
    what, remedy = f"{encoder_folder} was distilled from another teacher", "Test on features of its own teacher."
    refuse_difference(what, there, now, remedy)
    test = load_sample(source)
    refuse_trained_on(encoder_folder, test)
    scorers: list[Scorer] = [EncoderScorer("influcoder", encoder), Tfidf(), Bm25(), Random(seed)]
    skipped = {"paper-recipe": "distil it with --recipe paper and evaluate that encoder"}
    if (source / "backbone").exists():
        check_decoder_tables(source)
        scorers.append(EncoderScorer("untrained", InfluenceEncoder(sentence_transformer(source / "backbone"), None)))
    else:
        skipped["untrained"] = "import the features with --decoder"
    if train is None or encoder.head is None:
        skipped["surface"] = "give --train-features and a static encoder"
    else:
        learnt_from = load_sample(train)
        refuse_seen({normalised(one) for one in (*learnt_from.queries, *learnt_from.pool)}, test)
        scorers.append(Surface(encoder).fit(*split_sample(learnt_from, seed)))
    reliability = None
    if teacher is None:
        skipped |= dict.fromkeys(("exact", "influcoder-exact-query"), "give --decoder")
    else:
        if encoder.query_projector is not None:
            scorers.append(ExactQueryScorer(encoder, teacher_of(encoder, teacher.decoder, checkpoints)))
        half = max(4, min(teacher.settings.fit_examples, len(test.pool) // 2))
        other = replace(teacher.settings, seed=teacher.settings.seed + 1, fit_examples=half)
        again = make_teacher(teacher.decoder, other, checkpoints=checkpoints)
        again.fit(test.pool, test.queries)
        scorers.append(TeacherScorer(again))
    with folder.claim() as path:
        methods, _ = judge(scorers, test.influence, test.queries, test.pool, seed=seed)
        if "exact" in methods:
            reliability = methods["exact"]["per_query_spearman"]
        metrics = {
            "schema": 1,
            "seeds": [seed],
            "splits": {"test_queries": len(test.queries), "test_pool": len(test.pool), "overlap": 0},
            "teacher": {"name": made_by["teacher"], "reliability": reliability},
            "methods": methods,
            "skipped": skipped,
        }
        write_json(path / "metrics.json", metrics)
    return metrics
