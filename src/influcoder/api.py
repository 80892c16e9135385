"""The verbs that write a folder, for Python: what the command line does under the same words.

Each opens what it is given (a path, a hub id, rows, or what is loaded already), writes `output_dir`, and gives back
what lies there, loaded. `search` and `select` (in influcoder.verbs.search) and `score` (in influcoder.verbs.score) need
no folder.
"""

from pathlib import Path
from typing import Any

from influcoder.errors import ConfigError
from influcoder.indexes.build import Choice
from influcoder.indexes.index import Index
from influcoder.report.page import write_report
from influcoder.runners.processes import Processes
from influcoder.runners.runner import InProcess, Runner
from influcoder.store.output_folder import Folder, local_inputs
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.features_folder import FeaturesFolder
from influcoder.teachers.settings import TeacherSettings
from influcoder.verbs import distill as distilling
from influcoder.verbs import evaluate as evaluating
from influcoder.verbs import features as computing
from influcoder.verbs import index as indexing
from influcoder.verbs.opening import (
    AnyCheckpoints,
    AnyDecoder,
    AnyEncoder,
    AnyFeatures,
    Rows,
    open_decoder_of,
    open_encoder,
    open_features,
    stream_rows,
)
from influcoder.verbs.refresh import SHARE

AnyRunner = int | Runner | None
"""worker processes on this machine; or whoever else does the shards; or this process"""


def features(
    decoder: AnyDecoder,
    queries: Rows,
    pool: Rows,
    output_dir: str | Path,
    *,
    adapter: str | Path | None = None,
    teacher: str = "gradient-cosine",
    checkpoints: AnyCheckpoints | None = None,
    max_length: int = 1024,
    sample: int | None = None,
    seed: int = 0,
    workers: AnyRunner = None,
    resume: bool = False,
    overwrite: bool = False,
    **settings: Any,
) -> FeaturesFolder:
    """Compute the teacher's features of a sample of queries and pool examples: one gradient an example.

    Some hundred queries like those you will ask, and a thousand pool rows or more, are a good sample; one query is
    enough for questions that come with their own gradient (`search` with `decoder`).

    Args:
        decoder: the model whose training is attributed: a Hugging Face folder, hub id or `Decoder`.
        queries: files, folders, globs or URLs; a list of rows or of `Example`s; or a `datasets.Dataset`.
        pool: the same of training examples.
        output_dir: a new or empty folder.
        adapter: a PEFT LoRA adapter of a decoder that is not loaded yet.
        teacher: its name, as `influcoder teachers` lists them.
        checkpoints: folders that training saved, for less and tracin.
        max_length: tokens of an example that a decoder reads which is not loaded yet.
        sample: how many pool rows are drawn by the seed; all of them when omitted.
        seed: of everything random.
        workers: processes, each with a model of its own; or a `Runner`.
        resume: go on with what a stopped run left in `output_dir`.
        overwrite: empty `output_dir` first.
        settings: changes to the teacher's own, by the fields of `TeacherSettings`: rank, width, modules, damping ...

    Raises:
        ConfigError: no such teacher, a setting that does not fit, or a folder that holds what is read.
        DataError: a row cannot be used; the message names file and line.
        ModelError: the decoder cannot be used, or its gradients do not pass the check that comes first.
        StoreError: the folder is not empty, or another run writes there.

    >>> import influcoder
    >>> made = influcoder.features("decoder", "queries.jsonl", "pool.jsonl", "features", rank=4, width=512)
    >>> len(made.sample.queries), len(made.sample.pool), made.sample.influence.shape
    (30, 60, (30, 60))
    """
    try:
        chosen = TeacherSettings.named(teacher, seed=seed, **settings)
    except TypeError as error:
        raise ConfigError(f"{teacher}: {error}. Settings are the fields of TeacherSettings.") from error
    computing.features(
        decoder,
        queries,
        pool,
        _folder(output_dir, resume, overwrite, decoder, adapter, queries, pool, checkpoints),
        chosen,
        adapter=adapter,
        checkpoints=checkpoints,
        max_length=max_length,
        sample=sample,
        runner=_runner(workers),
    )
    return FeaturesFolder(output_dir)


def distill(
    features: AnyFeatures,
    output_dir: str | Path,
    *,
    recipe: distilling.Recipe = "static",
    encoder: str | None = None,
    decoder: AnyDecoder | None = None,
    adapter: str | Path | None = None,
    unlabelled: Rows | None = None,
    unlabelled_queries: Rows | None = None,
    earlier: AnyEncoder | None = None,
    share: float = SHARE,
    cost: float | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> InfluenceEncoder:
    """Distill teacher features into an encoder that reads text alone; a seeded 15 % of them choose between models.

    Args:
        features: a `FeaturesFolder` or its path.
        output_dir: a new or empty folder.
        recipe: "static": solved in seconds, texts are only looked up; "short": also takes the gradient of every text
            cut short; "forward": a forward pass instead; "paper": trains a Sentence Transformers model as in the paper.
        encoder: for the paper's recipe: a Sentence Transformers folder or hub id.
        decoder: for `cost`, the short and the forward recipe, and `unlabelled`: the one that the features come from.
        adapter: its LoRA adapter, if it is not loaded yet and had one.
        unlabelled: pool examples without features, for the static and the forward recipe; a short tier labels them.
        unlabelled_queries: the same of queries.
        earlier: an encoder of the static tier, distilled from `features`, to be refreshed for a later state of its
            decoder, which is then `decoder`; most features are carried along.
        share: with `earlier`, the share of rows that get a new gradient.
        cost: instead of a recipe: what reading a text may cost, as a share of a gradient, such as 0.1. Students that
            read more or less of `decoder` are measured and distilled, and the best on validation is kept.
        seed: of everything random.
        overwrite: empty `output_dir` first.

    Raises:
        ConfigError: what the recipe needs is missing, or something is given that it would not read.
        DataError: too few examples to split.
        StoreError: the features are unfinished or damaged, or `output_dir` is not empty.

    >>> import influcoder
    >>> encoder = influcoder.distill("features", "encoder")
    >>> encoder.tier, sorted(encoder.measured)[0]
    ('static', 'aggregated_spearman')
    """
    opened = open_features(features)
    more = (unlabelled_queries, unlabelled)
    folder = _folder(output_dir, False, overwrite, opened.path, encoder, decoder, adapter, earlier, *more)
    loaded = open_decoder_of(opened.provenance, decoder, adapter)
    distilling.distill(
        opened,
        folder,
        recipe=recipe,
        cost=cost,
        backbone=encoder,
        decoder=loaded,
        unlabelled=more,
        earlier=earlier,
        share=share,
        seed=seed,
    )
    return InfluenceEncoder.load(output_dir, decoder=loaded)


def index(
    encoder: AnyEncoder,
    pool: Rows,
    output_dir: str | Path,
    *,
    code: Choice = "auto",
    approximate: bool = False,
    decoder: AnyDecoder | None = None,
    adapter: str | Path | None = None,
    workers: AnyRunner = None,
    resume: bool = False,
    overwrite: bool = False,
) -> Index:
    """Embed a pool of any size and make it searchable; rows are streamed, and forgotten once they are written.

    `Index.add` and `Index.remove` change it later.

    Args:
        encoder: an `InfluenceEncoder`, its folder or a hub id.
        pool: files, folders, globs or URLs; a list of rows or of `Example`s; or a `datasets.Dataset`.
        output_dir: a new or empty folder.
        code: how vectors are stored: "float16", "int8", "int4"; or "auto": in as few bytes as keep the rankings of the
            first rows.
        approximate: make an IVF-PQ index as well, and measure its recall.
        decoder: what an encoder of the short or forward tier reads texts with.
        adapter: its LoRA adapter, if it is not loaded yet and had one.
        workers: processes, each with an encoder of its own; or a `Runner`.
        resume: go on with what a stopped run left in `output_dir`.
        overwrite: empty `output_dir` first.

    Raises:
        ConfigError: no such code, or a folder that holds what is read.
        DataError: a row cannot be used; the message names file and line.
        ModelError: the encoder cannot be read, or reads with another decoder.
        StoreError: the folder is not empty, or another run writes there.

    >>> import influcoder
    >>> index = influcoder.index("encoder", [{"question": "Two plus two?", "answer": "four"}], "index")
    >>> len(index), index.example(0).completion
    (1, 'four')
    """
    made, loaded = open_encoder(encoder, decoder, adapter)
    rows, folder = (
        stream_rows(pool, "pool", loaded),
        _folder(output_dir, resume, overwrite, made.folder, decoder, adapter, pool),
    )
    indexing.index(made, rows, folder, code=code, approximate=approximate, runner=_runner(workers))
    return Index(output_dir, decoder=loaded)


def evaluate(
    encoder: AnyEncoder,
    features: AnyFeatures,
    output_dir: str | Path | None = None,
    *,
    train_features: AnyFeatures | None = None,
    decoder: AnyDecoder | None = None,
    adapter: str | Path | None = None,
    checkpoints: AnyCheckpoints | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Judge an encoder on features of examples it has never seen, beside every rival that can be run.

    Args:
        encoder: an `InfluenceEncoder`, its folder or a hub id.
        features: a `FeaturesFolder` of test examples, or its path.
        output_dir: where metrics.json and report.html are written, if they are.
        train_features: what the encoder was distilled from: rivals that need training are trained on it.
        decoder: runs the teacher with another seed (the ceiling of any encoder) and exact queries.
        adapter: its LoRA adapter, if it is not loaded yet and had one.
        checkpoints: those that the teacher took its gradients from, if it did.
        seed: of intervals and of the random rival.
        overwrite: empty `output_dir` first.

    Returns:
        The numbers: under "methods", of each method its agreement with the teacher ("per_query_spearman" with
        "interval_95", "ndcg_at_10" ...) and its cost; under "skipped", what would bring the others.

    Raises:
        DataError: the encoder was trained on some of the test examples.
        StoreMismatch: the features are of another teacher than the encoder's.

    >>> import influcoder
    >>> found = influcoder.evaluate("encoder", "test-features")
    >>> "influcoder" in found["methods"], found["splits"]["overlap"]
    (True, 0)
    """
    opened, loaded = open_encoder(encoder, decoder, adapter, checkpoints=checkpoints)
    test, train = open_features(features), None if train_features is None else open_features(train_features)
    folder = None
    if output_dir is not None:
        inputs = (opened.folder, test.path, train and train.path, decoder, adapter, checkpoints)
        folder = _folder(output_dir, False, overwrite, *inputs)
    metrics = evaluating.evaluate(opened, test, folder, train=train, decoder=loaded, checkpoints=checkpoints, seed=seed)
    if folder is not None:
        write_report(folder.path)
    return metrics


def _folder(output_dir: str | Path, resume: bool, overwrite: bool, *inputs: object) -> Folder:
    """The folder to write, which must not be one of the inputs."""
    if not isinstance(output_dir, str | Path):
        raise ConfigError(f"output_dir is {output_dir!r}, expected a path.")
    return Folder(Path(output_dir), resume, overwrite, local_inputs(*inputs))


def _runner(workers: AnyRunner) -> Runner:
    if isinstance(workers, int):
        return Processes(workers)
    if workers is None:
        return InProcess()
    if not callable(getattr(workers, "run", None)):
        raise ConfigError(f"workers is {workers!r}, expected a number of processes or a Runner.")
    return workers
