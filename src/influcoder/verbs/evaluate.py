"""The verb `evaluate` as a function: an encoder on features of data it has never seen."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from influcoder.data.examples import normalised
from influcoder.evaluation.evaluate import evaluate as judge
from influcoder.evaluation.scorers import (
    EncoderScorer,
    ExactQueryScorer,
    Scorer,
    Surface,
    TeacherScorer,
    word_scorers,
)
from influcoder.store.files import write_json
from influcoder.store.output_folder import Folder
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.encoder_folder import teacher_of
from influcoder.student.features_folder import FeaturesFolder
from influcoder.student.sample import Sample, refuse_seen, refuse_trained_on
from influcoder.teachers.checkpoints import Checkpoint
from influcoder.teachers.make import make_teacher
from influcoder.teachers.teacher import Teacher
from influcoder.verbs.opening import (
    AnyCheckpoints,
    AnyDecoder,
    AnyEncoder,
    AnyFeatures,
    open_checkpoints,
    open_encoder,
    open_features,
)


def evaluate(
    encoder: AnyEncoder,
    features: AnyFeatures,
    folder: Folder | None = None,
    *,
    train: AnyFeatures | None = None,
    decoder: AnyDecoder | None = None,
    adapter: str | Path | None = None,
    checkpoints: AnyCheckpoints | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Judge an encoder on features of data it has never seen, beside every rival that can be run.

    Args:
        features: what to test on.
        folder: where to leave the numbers, if anywhere.
        train: the features that the encoder was distilled from: `surface` is fitted on them.
        decoder: runs the teacher with another seed (`exact`) and gives exact queries.

    Raises:
        DataError: the test holds examples the encoder was trained on, or `train` does.
        StoreMismatch: the features are of another teacher than the encoder's, in any of its settings, or the decoder
            is not the one they come from.
    """
    encoder, decoder = open_encoder(encoder, decoder, adapter, checkpoints=checkpoints)
    features, train = open_features(features), None if train is None else open_features(train)
    saved = open_checkpoints(checkpoints, decoder, encoder.provenance)
    teacher = None if decoder is None else features.teacher(decoder, saved)
    encoder.provenance.of_features(fitted=False).refuse_other(
        features.provenance.of_features(fitted=False),
        f"{encoder.folder} was distilled from another teacher than {features.path}",
        "Test on features of its own teacher, with the same settings.",
    )
    test = features.sample
    refuse_trained_on(encoder.folder or Path(), test)
    scorers, skipped = _text_scorers(encoder, features, train, seed)
    if teacher is None:
        skipped |= dict.fromkeys(("exact", "influcoder-exact-query"), "give --decoder")
    else:
        if encoder.query_projector is not None:
            scorers.append(ExactQueryScorer(encoder, teacher_of(encoder, teacher.decoder, saved)))
        scorers.append(TeacherScorer(_with_another_seed(teacher, test, saved)))
    with folder.claim() if folder else nullcontext() as path:
        methods, _ = judge(scorers, test.influence, test.queries, test.pool, seed=seed)
        made_by = features.provenance.teacher
        reliability = methods["exact"]["per_query_spearman"] if "exact" in methods else None
        remote_code = features.provenance.decoder and features.provenance.decoder.remote_code
        code = {"remote_code": remote_code} if remote_code else {}
        metrics = {
            "schema": 1,
            "encoder": encoder.fingerprint,
            "seeds": [seed],
            "splits": {"test_queries": len(test.queries), "test_pool": len(test.pool), "overlap": 0},
            "teacher": {"name": made_by.name if made_by else None, "reliability": reliability} | code,
            "methods": methods,
            "skipped": skipped,
        }
        if path is not None:
            write_json(path / "metrics.json", metrics)
    return metrics


def _text_scorers(
    encoder: InfluenceEncoder, features: FeaturesFolder, train: FeaturesFolder | None, seed: int
) -> tuple[list[Scorer], dict[str, str]]:
    """The methods that score texts without a gradient, and those left out, with what they need."""
    words, skipped = word_scorers(seed)
    scorers: list[Scorer] = [EncoderScorer("influcoder", encoder), *words]
    skipped["paper-recipe"] = "distill it with --recipe paper and evaluate that encoder"
    if features.has_tables:
        scorers.append(EncoderScorer("untrained", InfluenceEncoder(features.backbone, None)))
    else:
        skipped["untrained"] = "import the features with --decoder"
    if train is None or encoder.head is None:
        skipped["surface"] = "give --train-features and a static encoder"
    else:
        texts = {normalised(example) for example in (*train.sample.queries, *train.sample.pool)}
        refuse_seen(texts, features.sample)
        scorers.append(Surface(encoder).fit(*train.split(seed)))
    return scorers, skipped


def _with_another_seed(teacher: Teacher, test: Sample, checkpoints: Sequence[Checkpoint]) -> Teacher:
    """The same teacher with other random projections, and fitted on another sample: the ceiling of any student."""
    half = max(4, min(teacher.settings.fit_examples, len(test.pool) // 2))
    settings = replace(teacher.settings, seed=teacher.settings.seed + 1, fit_examples=half)
    reseeded = make_teacher(teacher.decoder, settings, checkpoints=checkpoints)
    reseeded.fit(test.pool, test.queries)
    return reseeded
