"""The verbs `distill` and `import` as functions."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from influcoder.data.examples import Example
from influcoder.errors import ConfigError
from influcoder.model.decoder import Decoder
from influcoder.progress import progress
from influcoder.provenance import Provenance
from influcoder.store.files import write_json
from influcoder.store.output_folder import Folder, local
from influcoder.student.backbone import sentence_transformer
from influcoder.student.decoder_tables import DecoderTables, write_decoder_tables
from influcoder.student.distill import ClosedFormRecipe, distill_student
from influcoder.student.effort import BY_TIER, Effort
from influcoder.student.encoder import DECODER_TIERS, InfluenceEncoder
from influcoder.student.features_folder import FeaturesFolder
from influcoder.student.measured import measure
from influcoder.student.paper import PaperRecipe, distill_paper, steps
from influcoder.student.sample import Sample, not_in, write_training
from influcoder.teachers.imported import Imported
from influcoder.teachers.teacher import Teacher
from influcoder.verbs.cost import best_student, cheap_enough
from influcoder.verbs.opening import (
    AnyDecoder,
    AnyEncoder,
    AnyFeatures,
    Rows,
    open_decoder_of,
    open_features,
    read_rows,
)
from influcoder.verbs.refresh import SHARE, refresh

Recipe = Literal["static", "forward", "short", "paper"]


def import_attribution(imported: Imported, folder: Folder, decoder: Decoder | None = None) -> dict[str, Any]:
    """Write the features of another tool as a features folder; with a decoder, its table for the static student."""
    with folder.claim() as path:
        metrics = imported.write(path)
        if decoder is not None:
            write_decoder_tables(DecoderTables.of(decoder), path)
            metrics["backbone"] = asdict(decoder.fingerprint)
        write_json(path / "metrics.json", metrics)
    return metrics


def distill(
    features: AnyFeatures,
    folder: Folder,
    *,
    recipe: Recipe = "static",
    effort: Effort | None = None,
    cost: float | None = None,
    backbone: str | None = None,
    decoder: AnyDecoder | None = None,
    adapter: str | Path | None = None,
    unlabelled: tuple[Rows | None, Rows | None] = (None, None),
    earlier: AnyEncoder | None = None,
    share: float = SHARE,
    seed: int = 0,
) -> dict[str, Any]:
    """Distill features into an encoder; a seeded 15 % of both sides choose between models.

    Where there are few queries, pool rows are asked beside them (`influcoder.student.few_questions`).

    Args:
        effort: instead of a recipe: what of the decoder the student runs on a text.
        cost: instead of a recipe: what reading a text may cost, as a share of a gradient. Several students are
            distilled, and the best on validation is kept (`influcoder.verbs.cost`).
        backbone: for the paper's recipe: a Sentence Transformers folder or hub id.
        decoder: for `cost`, the forward and the short recipe, and pseudo-labels: the one the features come from.
        unlabelled: queries and pool examples without features, for the static and the forward recipe: a short tier is
            distilled first and labels them. Those whose text stands in `features` are left out.
        adapter: of a decoder that is not loaded yet.
        earlier: an encoder to refresh for a later state of its decoder, which is then `decoder`
            (`influcoder.verbs.refresh`).
        share: of the rows; these then get a new gradient.
    """
    if earlier is not None:
        if recipe != "static" or cost is not None or backbone or any(unlabelled) or decoder is None:
            raise ConfigError(
                "--from refreshes an encoder of the static tier: give --decoder; leave --recipe, --cost, --encoder, "
                "--unlabelled and --unlabelled-queries out."
            )
        return refresh(earlier, features, decoder, folder, adapter=adapter, share=share, seed=seed)
    features = open_features(features)
    recipe = recipe if effort is None else effort.tier
    _refuse_recipe(features, recipe, backbone, decoder is not None, any(unlabelled), cost)
    decoder = open_decoder_of(features.provenance, decoder, adapter)
    train, validation = features.split(seed)
    queries, pool = (
        not_in(learnt, read_rows(rows, "unlabelled", decoder) if rows else [])
        for learnt, rows in zip((features.sample.queries, features.sample.pool), unlabelled, strict=True)
    )
    if any(unlabelled) and not (queries or pool):
        raise ConfigError(f"every unlabelled text stands in {features.path} already: nothing is left to label.")
    student = sentence_transformer(backbone) if backbone else features.backbone
    state = {name: tensor.numpy() for name, tensor in features.teacher_state.items()}
    teacher = None
    if decoder is not None and (recipe == "short" or queries or pool or cost is not None):
        teacher = _short_teacher(features, decoder)
    found: dict[str, Any] = {}
    with folder.claim() as path:
        if recipe == "paper":
            encoder = _distill_paper(student, train, validation, seed, features.provenance)
        else:
            solve = partial(
                distill_student,
                backbone=student,
                train=train,
                validation=validation,
                recipe=ClosedFormRecipe(seed=seed),
                expected=features.expected,
                decoder=decoder,
                teacher=teacher,
                provenance=features.provenance,
            )
            if cost is None or teacher is None:
                encoder = solve(effort or BY_TIER[recipe], unlabelled=(queries, pool))
            else:
                encoder, found = _of_cost(cost, teacher, features, solve, (queries, pool))
        if features.asked is not None and (student_record := encoder.provenance.student):
            record = replace(student_record, pool_as_queries=len(features.asked[0]))
            encoder.provenance = replace(encoder.provenance, student=record)
        write_training(path, features.sample, [*queries, *pool])
        encoder.teacher_state = state
        encoder.base_model = _hub_id(backbone) if recipe == "paper" else features.base_model
        encoder.save(path)
        splits = {
            "train_queries": len(train.queries),
            "train_pool": len(train.pool),
            "validation_queries": len(validation.queries),
            "validation_pool": len(validation.pool),
        }
        if features.asked is not None:
            splits |= {"questions": len(features.sample.queries), "pool_as_queries": len(features.asked[0])}
        if queries or pool:
            splits |= {"pseudo_queries": len(queries), "pseudo_pool": len(pool)}
        metrics = {"tier": encoder.tier, "validation": encoder.measured, "splits": splits} | found
        write_json(path / "metrics.json", metrics)
    return metrics


def _hub_id(backbone: str | None) -> str | None:
    """The name of a Sentence Transformers model that is not on this machine as a folder."""
    return None if backbone is None or local(backbone) else backbone


def _of_cost(
    cost: float,
    teacher: Teacher,
    features: FeaturesFolder,
    solve: Callable[..., InfluenceEncoder],
    unlabelled: tuple[Sequence[Example], Sequence[Example]],
) -> tuple[InfluenceEncoder, dict[str, Any]]:
    """The best student of a cost; it learns from pseudo-labels as well where it takes no gradients itself."""
    costs = cheap_enough(cost, teacher, features.sample.pool)
    encoder, effort, tried = best_student(costs, solve)
    if any(unlabelled) and not effort.backward:
        encoder = solve(effort, unlabelled=unlabelled)
    found = {"asked": cost, "measured": costs[effort], "reads": str(effort)}
    return encoder, {"cost": found, "students": [each.json() for each in tried]}


def _short_teacher(features: FeaturesFolder, decoder: Decoder) -> Teacher:
    made_by = features.provenance.teacher
    if made_by is not None and made_by.checkpoints:
        raise ConfigError(
            f"the features in {features.path} are of checkpoints, and the short tier takes gradients of one model. "
            "Distill them with --recipe static, without --unlabelled."
        )
    return features.teacher(decoder)


def _distill_paper(
    backbone: Any, train: Sample, validation: Sample, seed: int, provenance: Provenance
) -> InfluenceEncoder:
    settings = PaperRecipe(seed=seed)
    with progress("the paper's recipe", steps(len(train.queries), len(train.pool), settings)) as advance:
        encoder = distill_paper(
            backbone,
            train.queries,
            train.pool,
            train.influence,
            settings,
            advance=advance,
            provenance=provenance,
        )
    measure(encoder, validation)
    return encoder


def _refuse_recipe(
    features: FeaturesFolder,
    recipe: str,
    backbone: str | None,
    with_decoder: bool,
    labels: bool,
    cost: float | None,
) -> None:
    """Refuse a recipe without what it needs, or with what it does not read."""
    if cost is not None and (recipe != "static" or not with_decoder):
        raise ConfigError("--cost chooses what is read of the decoder itself: give --decoder, and leave --recipe out.")
    if recipe not in get_args(Recipe):
        raise ConfigError(f"recipe is {recipe!r}, expected one of {', '.join(get_args(Recipe))}.")
    if recipe != "paper" and backbone:
        raise ConfigError(f"the {recipe} recipe reads the decoder's own table; --encoder goes with --recipe paper.")
    if labels and recipe not in ("static", "forward"):
        raise ConfigError(
            f"--unlabelled goes with --recipe static or forward: the {recipe} recipe reads no such labels."
        )
    if (recipe in DECODER_TIERS or labels or cost is not None) != with_decoder:
        raise ConfigError(
            "the forward and the short recipe, --cost and --unlabelled run the decoder, nothing else does: give "
            "--decoder with one of them."
        )
    if recipe == "paper" and not backbone:
        raise ConfigError("the paper's recipe trains a Sentence Transformers model: name it with --encoder.")
    if recipe != "paper" and not features.has_tables:
        raise ConfigError(
            f"{features.path}: no decoder's table in backbone/, which the {recipe} recipe reads. Run `influcoder "
            "features` again with --resume, or `influcoder import` with --decoder; or distill with --recipe paper "
            "--encoder MODEL."
        )
