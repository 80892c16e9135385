"""The verbs `distill` and `import` as functions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from influcoder.data.examples import Example
from influcoder.errors import ConfigError
from influcoder.model.decoder import Decoder
from influcoder.progress import progress
from influcoder.store.files import write_json
from influcoder.store.output_folder import Folder
from influcoder.student.backbone import sentence_transformer
from influcoder.student.decoder_tables import check_decoder_tables, read_expected, write_decoder_tables
from influcoder.student.distill import ClosedFormRecipe, distil_tier, measured
from influcoder.student.encoder import DECODER_TIERS
from influcoder.student.paper import PaperRecipe, distil_paper, steps
from influcoder.student.sample import _teacher_of, load_sample, not_in, split_sample, write_training
from influcoder.teachers.fitted import _learnt
from influcoder.teachers.imported import Imported
from influcoder.teachers.make import teacher_again

Recipe = Literal["static", "forward", "short", "paper"]


def import_attribution(found: Imported, folder: Folder, decoder: Decoder | None = None) -> dict[str, Any]:
    """Write what another tool computed as a features folder; with a decoder, its table for the static student."""
    with folder.claim() as path:
        metrics = found.write(path)
        if decoder is not None:
            write_decoder_tables(decoder, path)
            metrics["backbone"] = decoder.fingerprint
        write_json(path / "metrics.json", metrics)
    return metrics


def distill(
    source: Path,
    folder: Folder,
    *,
    recipe: Recipe = "static",
    backbone: str | None = None,
    decoder: Decoder | None = None,
    unlabelled: tuple[Sequence[Example], Sequence[Example]] = ((), ()),
    seed: int = 0,
) -> dict[str, Any]:
    """Distil the features in `source` into an encoder; a seeded 15 % of both sides choose between models.

    Args:
        backbone: for the paper's recipe: a Sentence Transformers folder or hub id.
        decoder: for the forward and the short recipe, and for pseudo-labels: the one that the features come from.
        unlabelled: queries and pool examples without features, for the static and the forward recipe: a short tier is
            distilled first and labels them. Those whose text stands in `source` are left out.
    """
    _refuse_recipe(source, recipe, backbone, decoder, any(unlabelled))
    check_decoder_tables(source)
    whole = load_sample(source)
    train, validation = split_sample(whole, seed)
    made_by = _teacher_of(source) | {"student_seed": seed}
    student = sentence_transformer(backbone or source / "backbone")
    learnt = _learnt(source, made_by)
    further = not_in(whole.queries, unlabelled[0]), not_in(whole.pool, unlabelled[1])
    if any(unlabelled) and not any(further):
        raise ConfigError(f"every unlabelled text stands in {source} already: nothing is left to label.")
    teacher = None
    if decoder is not None and (recipe == "short" or any(further)):
        if "checkpoints" in made_by:
            raise ConfigError(
                f"the features in {source} are of checkpoints, and the short tier takes gradients of one model. Distil "
                "them with --recipe static, without --unlabelled."
            )
        teacher = teacher_again(made_by, learnt, decoder)
    with folder.claim() as path:
        if recipe != "paper":
            encoder = distil_tier(
                recipe,
                student,
                train,
                validation,
                ClosedFormRecipe(seed=seed),
                expected=read_expected(source),
                decoder=decoder,
                teacher=teacher,
                unlabelled=further,
                made_by=made_by,
            )
        else:
            settings = PaperRecipe(seed=seed)
            taught = train.queries, train.pool, train.influence
            with progress("the paper's recipe", steps(len(train.queries), len(train.pool), settings)) as advance:
                encoder = distil_paper(student, *taught, settings, advance=advance, made_by=made_by)
            encoder.measured = measured(encoder, validation)
        write_training(path, whole, [*further[0], *further[1]])
        encoder.teacher_state = {name: tensor.numpy() for name, tensor in learnt.items()}
        encoder.save(path)
        splits = {
            "train_queries": len(train.queries),
            "train_pool": len(train.pool),
            "validation_queries": len(validation.queries),
            "validation_pool": len(validation.pool),
        }
        if any(further):
            splits |= {"pseudo_queries": len(further[0]), "pseudo_pool": len(further[1])}
        metrics = {"tier": encoder.tier, "validation": encoder.measured, "splits": splits}
        write_json(path / "metrics.json", metrics)
    return metrics


def _refuse_recipe(source: Path, recipe: str, backbone: str | None, decoder: Decoder | None, labels: bool) -> None:
    """See that what a recipe needs is given, and nothing that it would not read."""
    if recipe not in get_args(Recipe):
        raise ConfigError(f"recipe is {recipe!r}, expected one of {', '.join(get_args(Recipe))}.")
    if recipe != "paper" and backbone:
        raise ConfigError(f"the {recipe} recipe reads the decoder's own table; --encoder goes with --recipe paper.")
    if labels and recipe not in ("static", "forward"):
        raise ConfigError(
            f"--unlabelled goes with --recipe static or forward: the {recipe} recipe reads no such labels."
        )
    if (recipe in DECODER_TIERS or labels) != (decoder is not None):
        raise ConfigError(
            "the forward and the short recipe, and --unlabelled, run the decoder, nothing else does: give --decoder "
            "with one of them."
        )
    if recipe == "paper" and not backbone:
        raise ConfigError("the paper's recipe trains a Sentence Transformers model: name it with --encoder.")
    if recipe != "paper" and (source / "pool" / "manifest.json").exists() and not (source / "backbone").exists():
        raise ConfigError(
            f"{source}: no decoder's table in backbone/, which the {recipe} recipe reads. Run `influcoder "
            "features` again with --resume, or `influcoder import` with --decoder; or distil with --recipe paper "
            "--encoder MODEL."
        )
