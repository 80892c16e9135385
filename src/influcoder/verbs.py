"""The verbs of the command line as functions: folders in, folders out.

Each writes into one output folder, which it claims (`influcoder.atomic.claim`), and leaves its numbers in
`metrics.json` there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from influcoder.atomic import atomic_write, claim, write_json
from influcoder.attribution import Hit
from influcoder.attribution import search as search_index
from influcoder.baselines import Bm25, Random, Scorer, Tfidf
from influcoder.decoder import Decoder
from influcoder.distill import Sample, StaticRecipe, backbone_of, distil_static, measured
from influcoder.encoder import InfluenceEncoder, sentence_transformer
from influcoder.errors import ConfigError, DataError, StoreMismatch
from influcoder.evaluation import EncoderScorer, ExactQueryScorer, Surface, TeacherScorer, evaluate, normalised
from influcoder.examples import Example, from_columns
from influcoder.index import Index
from influcoder.paper import PaperRecipe, distil_paper, steps
from influcoder.progress import progress
from influcoder.selection import Selection
from influcoder.store import Store
from influcoder.teachers import GradientTeacher, TeacherSettings

VALIDATION_SHARE = 0.15


@dataclass(frozen=True, slots=True)
class Folder:
    """Where a verb writes, what it does with what is already there, and the inputs that it must not touch."""

    path: Path
    resume: bool = False
    overwrite: bool = False
    inputs: tuple[Path, ...] = ()

    def claim(self) -> Any:
        return claim(self.path, resume=self.resume, overwrite=self.overwrite, inputs=self.inputs)


def features(
    decoder: Decoder, queries: Sequence[Example], pool: Sequence[Example], folder: Folder, settings: TeacherSettings
) -> dict[str, Any]:
    """Write the teacher features of queries and pool, and the decoder's table for the static student."""
    teacher = GradientTeacher(decoder, settings)
    with folder.claim() as path:
        stores = {
            side: teacher.write(part, path / side, f"gradients: {side}")
            for side, part in (("queries", queries), ("pool", pool))
        }
        backbone_of(decoder).save(str(path / "backbone"), create_model_card=False)
        flags = {
            f"{side}_{flag}": int(np.sum(store.columns[flag].to_numpy()))
            for side, store in stores.items()
            for flag in ("prompt_cut", "completion_cut", "no_gradient")
        }
        metrics = {"queries": len(queries), "pool": len(pool), "teacher": teacher.made_by, **flags}
        write_json(path / "metrics.json", metrics)
    return metrics


def distil(
    source: Path,
    folder: Folder,
    *,
    recipe: Literal["static", "paper"] = "static",
    backbone: str | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Distil the features in `source` into an encoder; a seeded 15 % of both sides choose between models.

    Args:
        backbone: for the paper's recipe: a Sentence Transformers folder or hub id.
    """
    if recipe not in ("static", "paper"):
        raise ConfigError(f"recipe is {recipe!r}, expected 'static' or 'paper'.")
    if recipe == "static" and backbone:
        raise ConfigError("the static recipe reads the decoder's own table; --encoder goes with --recipe paper.")
    if recipe == "paper" and not backbone:
        raise ConfigError("the paper's recipe trains a Sentence Transformers model: name it with --encoder.")
    whole = load_sample(source)
    train, validation = split_sample(whole, seed)
    made_by = _teacher_of(source) | {"seed": seed}
    student = sentence_transformer(backbone or source / "backbone")
    with folder.claim() as path:
        if recipe == "static":
            encoder = distil_static(student, train, validation, StaticRecipe(seed=seed), made_by=made_by)
        else:
            settings = PaperRecipe(seed=seed)
            total = steps(len(train.queries), len(train.pool), settings)
            with progress("the paper's recipe", total) as advance:
                encoder = distil_paper(
                    student,
                    train.queries,
                    train.pool,
                    train.influence,
                    settings,
                    advance=advance,
                    made_by=made_by,
                )
            encoder.measured = measured(encoder, validation)
        _write_training(path, whole)
        encoder.save(path)
        metrics = {
            "tier": encoder.tier,
            "validation": encoder.measured,
            "splits": {
                "train_queries": len(train.queries),
                "train_pool": len(train.pool),
                "validation_queries": len(validation.queries),
                "validation_pool": len(validation.pool),
            },
        }
        write_json(path / "metrics.json", metrics)
    return metrics


def index(encoder: InfluenceEncoder, pool: Sequence[Example], folder: Folder) -> dict[str, Any]:
    """Embed `pool` and make it searchable."""
    with folder.claim() as path:
        built = Index.build(encoder, pool, path)
        metrics = {"rows": len(built), "dim": encoder.dim, "bytes_per_example": 2 * encoder.dim}
        write_json(path / "metrics.json", metrics)
    return metrics


def search(
    index: Index,
    queries: Sequence[Example],
    *,
    k: int,
    opponents: bool,
    verify: int,
    decoder: Decoder | None,
) -> list[list[Hit]]:
    """Proponents or opponents of each query; with a decoder, from real query gradients."""
    teacher = None if decoder is None else teacher_of(index.encoder, decoder)
    return search_index(index, queries, k=k, opponents=opponents, verify=verify, teacher=teacher)


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
    scores = index.scores(index.encoder.encode_query(queries)).mean(axis=0)
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
    seed: int = 0,
) -> dict[str, Any]:
    """Judge an encoder on features of data it has never seen, beside every rival that can be run.

    Args:
        source: the features folder to test on.
        train: the features folder the encoder was distilled from: fits `surface` on it.
        decoder: runs the teacher with another seed (`exact`) and gives exact queries.

    Raises:
        DataError: the test holds examples the encoder was trained on.
        StoreMismatch: the decoder is not the one the features in `source` come from.
    """
    made_by = _teacher_of(source)
    if decoder is not None:
        _refuse_other_decoder(decoder, made_by, f"the features in {source} were computed")
    encoder = InfluenceEncoder.load(encoder_folder)
    test = load_sample(source)
    _refuse_trained_on(encoder_folder, test)
    scorers: list[Scorer] = [EncoderScorer("influcoder", encoder), Tfidf(), Bm25(), Random(seed)]
    skipped = {"paper-recipe": "distil it with --recipe paper and evaluate that encoder"}
    backbone = InfluenceEncoder(sentence_transformer(source / "backbone"), None)
    scorers.append(EncoderScorer("untrained", backbone))
    if train is None or encoder.head is None:
        skipped["surface"] = "give --train-features and a static encoder"
    else:
        scorers.append(Surface(encoder).fit(*split_sample(load_sample(train), seed)))
    reliability = None
    if decoder is None:
        skipped |= dict.fromkeys(("exact", "influcoder-exact-query"), "give --decoder")
    else:
        truth_settings = _settings_of(made_by)
        if encoder.query_projector is not None:
            scorers.append(ExactQueryScorer(encoder, GradientTeacher(decoder, truth_settings)))
        scorers.append(TeacherScorer(GradientTeacher(decoder, replace(truth_settings, seed=truth_settings.seed + 1))))
    with folder.claim() as path:
        methods, _ = evaluate(scorers, test.influence, test.queries, test.pool, seed=seed)
        if "exact" in methods:
            reliability = methods["exact"]["per_query_spearman"]
        metrics = {
            "schema": 1,
            "seeds": [seed],
            "splits": {"test_queries": len(test.queries), "test_pool": len(test.pool), "overlap": 0},
            "teacher": {"name": "gradient-cosine", "reliability": reliability},
            "methods": methods,
            "skipped": skipped,
        }
        write_json(path / "metrics.json", metrics)
    return metrics


def load_sample(folder: Path) -> Sample:
    """The examples and features of a features folder."""
    stores = [Store(folder / side) for side in ("queries", "pool")]
    for store in stores:
        if store.manifest["kind"] != "features":
            raise StoreMismatch(f"{store.folder}: a store of {store.manifest['kind']}, expected features.")
    examples = [[from_columns(record) for record in store.columns.to_pylist()] for store in stores]
    return Sample(examples[0], examples[1], stores[0].vectors(), stores[1].vectors())


def split_sample(whole: Sample, seed: int) -> tuple[Sample, Sample]:
    """(train, validation): a seeded share of both sides is kept for choosing between models."""
    if not 0 <= seed < 2**63:
        raise ConfigError(f"seed is {seed}, expected 0 to 2**63 - 1.")
    rng = np.random.default_rng(seed)
    kept = []
    for examples in (whole.queries, whole.pool):
        order = rng.permutation(len(examples))
        size = max(2, round(VALIDATION_SHARE * len(examples)))
        if len(order) < 2 * size:
            raise DataError(
                f"{len(examples)} examples on one side; distilling needs at least {2 * size} to train and validate."
            )
        kept.append((np.sort(order[size:]), np.sort(order[:size])))
    (q_train, q_validation), (p_train, p_validation) = kept
    return whole.rows(q_train, p_train), whole.rows(q_validation, p_validation)


def teacher_of(encoder: InfluenceEncoder, decoder: Decoder) -> GradientTeacher:
    """The teacher an encoder was distilled from, on the decoder given.

    Raises:
        StoreMismatch: the decoder is not the one it was distilled from.
    """
    _refuse_other_decoder(decoder, encoder.made_by, "the encoder was distilled")
    return GradientTeacher(decoder, _settings_of(encoder.made_by))


def _teacher_of(source: Path) -> dict[str, Any]:
    return {name: value for name, value in Store(source / "pool").manifest["made_by"].items() if name != "data"}


def _settings_of(made_by: Mapping[str, Any]) -> TeacherSettings:
    return TeacherSettings(**{name: made_by[name] for name in TeacherSettings.__dataclass_fields__})


def _refuse_other_decoder(decoder: Decoder, made_by: Mapping[str, Any], what: str) -> None:
    for key in ("decoder", "tokenizer"):
        expected, found = made_by.get(key, "unknown"), decoder.fingerprint[key]
        if expected != found:
            raise StoreMismatch(
                f"{what} from a decoder with {key} {expected[:12]}, {decoder.name} has {found[:12]}. "
                "Give that decoder, or make features and encoder with this one."
            )


def _write_training(folder: Path, whole: Sample) -> None:
    """The ids and text hashes of everything training and model selection saw."""
    examples = [*whole.queries, *whole.pool]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": [one.id for one in examples], "text": [normalised(one) for one in examples]}), sink)
    atomic_write(folder / "training.parquet", sink.getvalue().to_pybytes())


def _refuse_trained_on(encoder_folder: Path, test: Sample) -> None:
    path = encoder_folder / "training.parquet"
    if not path.exists():
        raise DataError(f"{path}: missing, so it cannot be told what the encoder was trained on. Distil it again.")
    seen = set(pq.read_table(path)["text"].to_pylist())
    shared = [one.id for one in (*test.queries, *test.pool) if normalised(one) in seen]
    if shared:
        raise DataError(
            f"{len(shared)} test examples were seen in training or model selection, {shared[0]!r} among them. "
            "Test on other data."
        )
