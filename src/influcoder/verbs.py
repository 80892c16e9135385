"""The verbs of the command line as functions: folders in, folders out.

Each writes into one output folder, which it claims (`influcoder.atomic.claim`), and leaves its numbers in
`metrics.json` there.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import safetensors.torch
import torch

from influcoder.atomic import write_json
from influcoder.attribution import Hits, Searchable
from influcoder.attribution import search as search_index
from influcoder.backbone import sentence_transformer
from influcoder.baselines import Bm25, Random, Scorer, Tfidf
from influcoder.decoder import Decoder
from influcoder.decoder_tables import check_decoder_tables, read_expected, write_decoder_tables
from influcoder.distill import ClosedFormRecipe, distil_static, measured
from influcoder.encoder import DECODER_TIERS, InfluenceEncoder
from influcoder.errors import ConfigError, StoreCorrupt
from influcoder.evaluation import EncoderScorer, ExactQueryScorer, Surface, TeacherScorer, evaluate, normalised
from influcoder.examples import Example
from influcoder.folder import Folder
from influcoder.imports import Imported
from influcoder.index import Index
from influcoder.paper import PaperRecipe, distil_paper, steps
from influcoder.progress import progress
from influcoder.pseudo import PseudoLabels
from influcoder.samples import load_sample, not_in, refuse_seen, refuse_trained_on, split_sample, write_training
from influcoder.selection import Selection
from influcoder.store import Store, refuse_difference
from influcoder.teachers import Checkpoint, Teacher, make_teacher, read_fitted, teacher_again

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


def distil(
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
            solve = partial(
                distil_static,
                student,
                train,
                validation,
                ClosedFormRecipe(seed=seed),
                expected=read_expected(source),
            )
            labels = None
            if any(further):
                labels = PseudoLabels.by(solve(short=teacher, refit=False), *further)
            encoder = solve(
                forward=decoder if recipe == "forward" else None,
                short=teacher if recipe == "short" else None,
                pseudo=labels,
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


def evaluate_encoder(
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
        methods, _ = evaluate(scorers, test.influence, test.queries, test.pool, seed=seed)
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


def teacher_of(encoder: InfluenceEncoder, decoder: Decoder, checkpoints: Sequence[Checkpoint] = ()) -> Teacher:
    """The teacher an encoder was distilled from, on the decoder given.

    Raises:
        StoreMismatch: the decoder is not the one it was distilled from.
    """
    state = {name: torch.from_numpy(array) for name, array in encoder.teacher_state.items()}
    return teacher_again(encoder.made_by, state, decoder, checkpoints=checkpoints)


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


def _teacher_of(source: Path) -> dict[str, Any]:
    return {name: value for name, value in Store(source / "pool").manifest["made_by"].items() if name != "data"}
