"""The command line: one function a verb, each a few lines over `influcoder.verbs`."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import cyclopts
from cyclopts import Parameter

from influcoder import __version__
from influcoder.cli.flags import Files, Flag, Output, Reading, ResumableOutput, Seed, share
from influcoder.cli.output import finish, print_json, words_of, write_config
from influcoder.errors import ConfigError, InflucoderError

if TYPE_CHECKING:
    from influcoder.decoder import Decoder
    from influcoder.encoder import InfluenceEncoder
    from influcoder.examples import Example

READ_AS_USUAL = Reading()

app = cyclopts.App(
    name="influcoder",
    help="Which training examples push a language model towards an output, and which push it away.",
    version=__version__,
)


@app.command
def demo(*, output: ResumableOutput, seed: Seed = 0) -> None:
    """Run the whole path on the built-in demo world: about two minutes on two cores."""
    from influcoder.atomic import claim
    from influcoder.demo.run import run_demo
    from influcoder.tables import print_demo

    with claim(output.output_dir, resume=output.resume, overwrite=output.overwrite) as folder:
        write_config(folder, "demo", {"output": output, "seed": seed})
        found = run_demo(folder, seed=seed)
    shown = found.pop("shown")
    if output.json:
        print_json(found)
    else:
        print_demo(found, shown, output.output_dir)


@app.command
def run(config: Path, *, resume: Flag = False, overwrite: Flag = False) -> None:
    """Run a verb again from the config.toml that it left in its output folder.

    Args:
        config: its path; the same folder is written again, so give one of the flags or set the folder aside
        resume: go on with what is in the output folder; for the verbs that have this flag
        overwrite: empty the output folder first
    """
    import tomllib

    try:
        settings = tomllib.loads(config.read_text(encoding="utf-8"))
        words = words_of(settings)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"{config}: not the config of a run ({error!r}); expected the config.toml of an output folder."
        ) from error
    app(words + ["--resume"] * resume + ["--overwrite"] * overwrite)


@app.command
def features(
    *,
    output: ResumableOutput,
    decoder: str,
    queries: Files,
    pool: Files,
    adapter: str | None = None,
    teacher: Literal["gradient-cosine"] = "gradient-cosine",
    rank: int = 64,
    width: int = 32768,
    precision: Literal["auto", "bf16", "fp32"] = "auto",
    max_length: int = 1024,
    seed: Seed = 0,
    reading: Reading = READ_AS_USUAL,
) -> None:
    """Compute the teacher's features of queries and pool: one gradient an example.

    Args:
        decoder: the model whose training is attributed: Hugging Face folder or hub id of a causal LM
        queries: JSONL (.gz, .zst) or Parquet files, folders or globs
        pool: the same for the training examples
        adapter: a PEFT LoRA adapter of the decoder
        teacher: what computes influence: the cosine of two examples' gradients
        rank: rows of each random LoRA A; two seeds agree better the higher it is
        width: numbers in the sketch of a gradient
        precision: of the products: auto is bf16 where the processor has it
        max_length: tokens of an example that are read
    """
    arguments = dict(locals())
    from influcoder import verbs
    from influcoder.decoder import Decoder
    from influcoder.teachers import TeacherSettings

    rows = reading.read(queries, "queries", output), reading.read(pool, "pool", output)
    settings = TeacherSettings(rank=rank, width=width, seed=seed, precision=precision)
    loaded = Decoder.load(decoder, adapter=adapter, max_length=max_length)
    finish("features", arguments, verbs.features(loaded, *rows, output.folder(arguments), settings), output)


@app.command
def distill(
    *,
    output: Output,
    features: Path,
    recipe: Literal["static", "paper"] = "static",
    encoder: str | None = None,
    seed: Seed = 0,
) -> None:
    """Distil teacher features into an encoder that reads text alone.

    Args:
        features: what `influcoder features` wrote; a seeded 15 % of it is kept for validation
        recipe: static: solved in seconds; paper: a Sentence Transformers model trained as in the paper
        encoder: for the paper's recipe: a Sentence Transformers folder or hub id
    """
    arguments = dict(locals())
    from influcoder import verbs

    found = verbs.distil(features, output.folder(arguments), recipe=recipe, backbone=encoder, seed=seed)
    finish("distill", arguments, found, output)


@app.command
def index(*, output: ResumableOutput, encoder: Path, pool: Files, reading: Reading = READ_AS_USUAL) -> None:
    """Embed a pool and make it searchable.

    Args:
        encoder: what `influcoder distill` wrote
        pool: JSONL (.gz, .zst) or Parquet files, folders or globs
    """
    arguments = dict(locals())
    from influcoder import verbs
    from influcoder.encoder import InfluenceEncoder

    loaded = InfluenceEncoder.load(encoder)
    found = verbs.index(loaded, reading.read(pool, "pool", output), output.folder(arguments))
    finish("index", arguments, found, output)


@app.command
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
        json: print the rows as JSON
    """
    from influcoder import verbs
    from influcoder.index import Index
    from influcoder.tables import hits_as_json, print_hits

    asked = _asked(prompt, completion, queries)
    opened = Index(index)
    teacher = _decoder_of(opened.encoder, decoder, adapter)
    found = verbs.search(opened, asked, k=k, opponents=opponents, verify=verify, decoder=teacher)
    if json:
        print_json(hits_as_json(asked, found))
    else:
        print_hits(asked, found, opponents)


@app.command
def select(
    *,
    output: Output,
    index: Path,
    queries: Files,
    top: str | None = None,
    drop: str | None = None,
    threshold: float | None = None,
    reading: Reading = READ_AS_USUAL,
) -> None:
    """Keep or drop pool rows by their mean influence on some queries; exactly one rule.

    Args:
        index: what `influcoder index` wrote
        queries: JSONL (.gz, .zst) or Parquet files, folders or globs
        top: keep this share of highest scores, as 5% or 0.05
        drop: leave this share of highest scores out
        threshold: keep scores of at least this
    """
    arguments = dict(locals())
    from influcoder import verbs
    from influcoder.index import Index

    rules = {"top": share(top, "--top"), "drop": share(drop, "--drop"), "threshold": threshold}
    asked = reading.read(queries, "queries", output)
    found = verbs.select(Index(index), asked, output.folder(arguments), **rules)
    finish("select", arguments, found, output)


@app.command
def evaluate(
    *,
    output: Output,
    encoder: Path,
    features: Path,
    train_features: Path | None = None,
    decoder: str | None = None,
    adapter: str | None = None,
    seed: Seed = 0,
) -> None:
    """Judge an encoder on features of examples it has never seen, beside its rivals.

    Args:
        encoder: what `influcoder distill` wrote
        features: what `influcoder features` wrote for the test examples
        train_features: what the encoder was distilled from: rivals that need training are trained on it
        decoder: runs the teacher with another seed (the ceiling) and exact queries
        adapter: its LoRA adapter, if it had one
    """
    arguments = dict(locals())
    from influcoder import verbs
    from influcoder.encoder import InfluenceEncoder
    from influcoder.report import write_report

    loaded = InfluenceEncoder.load(encoder)
    teacher = _decoder_of(loaded, decoder, adapter)
    folder = output.folder(arguments)
    found = verbs.evaluate_encoder(encoder, features, folder, train=train_features, decoder=teacher, seed=seed)
    write_report(output.output_dir)
    finish("evaluate", arguments, found, output)


@app.command
def report(folder: Path) -> None:
    """Write report.html from the metrics.json of a folder; prints its path.

    Args:
        folder: what `influcoder evaluate` or `influcoder demo` wrote
    """
    from influcoder.report import write_report

    print(write_report(folder))  # noqa: T201


@app.command
def env() -> None:
    """Print versions, for a bug report."""
    from influcoder.tables import print_versions

    print_versions()


def main() -> None:
    """Run the command line: our errors are one line on stderr and exit status 1; `--debug` shows where."""
    import signal

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    debug = "--debug" in sys.argv
    try:
        try:
            app([word for word in sys.argv[1:] if word != "--debug"])
        finally:
            print(end="", flush=True)  # noqa: T201 - a closed pipe is met here, not at the interpreter's exit
    except InflucoderError as error:
        if debug:
            raise
        _stop(str(error), 1)
    except KeyboardInterrupt:
        _stop("stopped. Run the same command with --resume to go on, or with --overwrite to start again.", 130)
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _stop(message: str, status: int) -> None:
    from influcoder.visible import visible

    print(f"error: {visible(' '.join(message.split()))}", file=sys.stderr)  # noqa: T201
    sys.exit(status)


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


def _decoder_of(encoder: "InfluenceEncoder", path: str | None, adapter: str | None) -> "Decoder | None":
    from influcoder.decoder import Decoder

    if path is None:
        return None
    return Decoder.load(path, adapter=adapter, max_length=encoder.made_by.get("max_length", 1024))
