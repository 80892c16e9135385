"""The verbs of the student: distil it, ask it, judge it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from influcoder.cli.flags import (
    READ_AS_USUAL,
    Files,
    Flag,
    Output,
    Reading,
    ResumableOutput,
    Seed,
    refuse_without_decoder,
    share,
)
from influcoder.cli.output import finish, print_json
from influcoder.cli.teach import checkpoints_of
from influcoder.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from influcoder.decoder import Decoder
    from influcoder.examples import Example
    from influcoder.index import Index


def distill(
    *,
    output: Output,
    features: Path,
    recipe: Literal["static", "forward", "short", "paper"] = "static",
    encoder: str | None = None,
    decoder: str | None = None,
    adapter: str | None = None,
    seed: Seed = 0,
) -> None:
    """Distil teacher features into an encoder that reads text alone.

    Args:
        features: what `influcoder features` wrote; a seeded 15 % of it is kept for validation
        recipe: static: solved in seconds, texts are only looked up; short: reads the gradient of every text cut short
            as well, nearest to the teacher; forward: a forward pass instead; paper: a Sentence Transformers model
            trained as in the paper
        encoder: for the paper's recipe: a Sentence Transformers folder or hub id
        decoder: for the short and the forward recipe: the model that the features come from
        adapter: its LoRA adapter, if it had one
    """
    arguments = dict(locals())
    from influcoder import verbs
    from influcoder.store import Store

    refuse_without_decoder(decoder, adapter=adapter)
    loaded = None
    if decoder is not None:
        loaded = decoder_of(Store(features / "pool").manifest["made_by"], decoder, adapter)
    found = verbs.distil(features, output.folder(arguments), recipe=recipe, backbone=encoder, decoder=loaded, seed=seed)
    finish("distill", arguments, found, output)


def index(
    *,
    output: ResumableOutput,
    encoder: Path,
    pool: Files,
    decoder: str | None = None,
    adapter: str | None = None,
    reading: Reading = READ_AS_USUAL,
) -> None:
    """Embed a pool and make it searchable.

    Args:
        encoder: what `influcoder distill` wrote
        pool: JSONL (.gz, .zst) or Parquet files, folders or globs
        decoder: what an encoder of the short or forward tier reads texts with
        adapter: its LoRA adapter, if it had one
    """
    arguments = dict(locals())
    from influcoder import verbs
    from influcoder.encoder import InfluenceEncoder

    refuse_without_decoder(decoder, adapter=adapter)
    loaded = InfluenceEncoder.load(encoder)
    if decoder is not None:
        loaded = InfluenceEncoder.load(encoder, decoder=decoder_of(loaded.made_by, decoder, adapter))
    found = verbs.index(loaded, reading.read(pool, "pool", output), output.folder(arguments))
    finish("index", arguments, found, output)


def search(
    *,
    index: Path,
    prompt: Annotated[str | None, Parameter(name=["--prompt", "--query"])] = None,
    completion: str | None = None,
    queries: Files | None = None,
    k: Annotated[int, Parameter(name=["-k", "--k"])] = 10,
    opponents: Flag = False,
    verify: int = 0,
    decoder: str | None = None,
    adapter: str | None = None,
    checkpoints: Files | None = None,
    json: Flag = False,
) -> None:
    """Show the pool rows that push the model towards a completion, or away from it.

    Args:
        index: what `influcoder index` wrote
        prompt: what the model is asked, as a user's turn
        completion: what it says, whose cause is sought
        queries: files of queries instead of one prompt and completion
        k: how many rows to show
        opponents: show what pushes away instead
        verify: how many candidates the decoder's real gradients re-score
        decoder: the decoder the encoder was distilled from: the query's own gradient is then used
        adapter: its LoRA adapter, if it had one
        checkpoints: those the teacher took its gradients from, if it did
        json: print the rows as JSON
    """
    from influcoder import verbs
    from influcoder.tables import hits_as_json, print_hits

    refuse_without_decoder(decoder, adapter=adapter, checkpoints=checkpoints)
    asked = _asked(prompt, completion, queries)
    opened, teacher = _opened(index, decoder, adapter)
    saved = checkpoints_of(checkpoints, decoder or "", opened.encoder.made_by.get("max_length", 1024))
    found = verbs.search(opened, asked, k=k, opponents=opponents, verify=verify, decoder=teacher, checkpoints=saved)
    if json:
        print_json(hits_as_json(asked, found))
    else:
        print_hits(asked, found, opponents)


def select(
    *,
    output: Output,
    index: Path,
    queries: Files,
    top: str | None = None,
    drop: str | None = None,
    threshold: float | None = None,
    decoder: str | None = None,
    adapter: str | None = None,
    reading: Reading = READ_AS_USUAL,
) -> None:
    """Keep or drop pool rows by their mean influence on some queries; exactly one rule.

    Args:
        index: what `influcoder index` wrote
        queries: JSONL (.gz, .zst) or Parquet files, folders or globs
        top: keep this share of highest scores, as 5% or 0.05
        drop: leave this share of highest scores out
        threshold: keep scores of at least this
        decoder: what an encoder of the short or forward tier reads the queries with
        adapter: its LoRA adapter, if it had one
    """
    arguments = dict(locals())
    from influcoder import verbs

    refuse_without_decoder(decoder, adapter=adapter)
    rules = {"top": share(top, "--top"), "drop": share(drop, "--drop"), "threshold": threshold}
    asked = reading.read(queries, "queries", output)
    found = verbs.select(_opened(index, decoder, adapter)[0], asked, output.folder(arguments), **rules)
    finish("select", arguments, found, output)


def evaluate(
    *,
    output: Output,
    encoder: Path,
    features: Path,
    train_features: Path | None = None,
    decoder: str | None = None,
    adapter: str | None = None,
    checkpoints: Files | None = None,
    seed: Seed = 0,
) -> None:
    """Judge an encoder on features of examples it has never seen, beside its rivals.

    Args:
        encoder: what `influcoder distill` wrote
        features: what `influcoder features` wrote for the test examples
        train_features: what the encoder was distilled from: rivals that need training are trained on it
        decoder: runs the teacher with another seed (the ceiling) and exact queries
        adapter: its LoRA adapter, if it had one
        checkpoints: those the teacher took its gradients from, if it did
    """
    arguments = dict(locals())
    from influcoder import verbs
    from influcoder.encoder import InfluenceEncoder
    from influcoder.report import write_report

    refuse_without_decoder(decoder, adapter=adapter, checkpoints=checkpoints)
    loaded = InfluenceEncoder.load(encoder)
    teacher = decoder_of(loaded.made_by, decoder, adapter)
    folder = output.folder(arguments)
    saved = checkpoints_of(checkpoints, decoder or "", loaded.made_by.get("max_length", 1024))
    found = verbs.evaluate_encoder(
        encoder, features, folder, train=train_features, decoder=teacher, checkpoints=saved, seed=seed
    )
    write_report(output.output_dir)
    finish("evaluate", arguments, found, output)


def _asked(prompt: str | None, completion: str | None, queries: list[str] | None) -> "list[Example]":
    from influcoder.examples import Example
    from influcoder.reading import read_examples

    if queries and (prompt or completion):
        raise ConfigError("--queries was given with --prompt or --completion; give either one prompt or --queries.")
    if queries:
        return read_examples(queries)
    if not prompt or not completion or not completion.strip():
        raise ConfigError("what is asked? Give --prompt and --completion, or --queries with a file.")
    return [Example("query", prompt, completion, (("user", prompt),))]


def _opened(folder: Path, path: str | None, adapter: str | None) -> "tuple[Index, Decoder | None]":
    """An index with the decoder that its encoder may need."""
    from influcoder.index import Index

    index = Index(folder)
    decoder = decoder_of(index.encoder.made_by, path, adapter)
    return (index if decoder is None else Index(folder, decoder=decoder)), decoder


def decoder_of(made_by: "Mapping[str, Any]", path: str | None, adapter: str | None) -> "Decoder | None":
    """The decoder at a path, if one is given, reading as many tokens as the one that `made_by` tells of."""
    from influcoder.decoder import Decoder

    if path is None:
        return None
    return Decoder.load(path, adapter=adapter, max_length=made_by.get("max_length", 1024))
