"""The command line: one function a verb, each a few lines over the Python API."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import cyclopts
from cyclopts import Parameter

from influcoder import __version__
from influcoder.errors import ConfigError, InflucoderError

if TYPE_CHECKING:
    from influcoder.examples import Example
    from influcoder.verbs import Folder

app = cyclopts.App(
    name="influcoder",
    help="Which training examples push a language model towards an output, and which push it away.",
    version=__version__,
)

OutputDir = Annotated[Path, Parameter(help="folder to write; refused when not empty, unless --resume or --overwrite")]
Resume = Annotated[bool, Parameter(help="go on with what an earlier, stopped run left in the folder", negative="")]
Overwrite = Annotated[bool, Parameter(help="empty the folder first", negative="")]
Json = Annotated[bool, Parameter(name="--json", help="print the numbers as JSON", negative="")]
Seed = Annotated[int, Parameter(help="seed of everything random")]
Files = Annotated[list[str], Parameter(consume_multiple=True, help="JSONL(.gz/.zst) or Parquet files, folders, globs")]
OnError = Annotated[Literal["fail", "skip"], Parameter(help="what a row that cannot be used does")]
RejectRate = Annotated[float, Parameter(help="with --on-error skip: the largest share of such rows")]
PromptColumn = Annotated[str | None, Parameter(help="column of the prompt; detected when omitted")]
CompletionColumn = Annotated[str | None, Parameter(help="column of the completion; detected when omitted")]
IdColumn = Annotated[str | None, Parameter(help="column of the id")]
Share = Annotated[str | None, Parameter(help="a share, as 5% or 0.05")]
Adapter = Annotated[str | None, Parameter(help="a PEFT LoRA adapter of the decoder")]


@app.command
def demo(
    *, output_dir: OutputDir, seed: Seed = 0, resume: Resume = False, overwrite: Overwrite = False, json: Json = False
) -> None:
    """Run the whole path on the built-in demo world: about two minutes on two cores."""
    from influcoder.atomic import claim
    from influcoder.demo.run import run_demo
    from influcoder.tables import print_demo

    with claim(output_dir, resume=resume, overwrite=overwrite) as folder:
        _write_config(folder, "demo", output_dir=output_dir, seed=seed)
        found = run_demo(folder, seed=seed)
    shown = found.pop("shown")
    if json:
        _print_json(found)
    else:
        print_demo(found, shown, output_dir)


@app.command
def run(config: Path) -> None:
    """Run a verb again from the config.toml it left in its output folder."""
    import tomllib

    try:
        settings = tomllib.loads(config.read_text(encoding="utf-8"))
        verb = settings.pop("verb")
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"{config}: not a config of a run ({error!r}); expected the config.toml of an output folder."
        ) from error
    words = [str(verb)]
    for name, value in settings.items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words += [flag] if value else []
        else:
            words += [flag, *map(str, value if isinstance(value, list) else [value])]
    app(words)


@app.command
def features(
    *,
    decoder: str,
    queries: Files,
    pool: Files,
    output_dir: OutputDir,
    adapter: Adapter = None,
    teacher: Literal["gradient-cosine"] = "gradient-cosine",
    rank: int = 64,
    width: int = 32768,
    precision: Literal["auto", "bf16", "fp32"] = "auto",
    max_length: int = 1024,
    seed: Seed = 0,
    prompt_column: PromptColumn = None,
    completion_column: CompletionColumn = None,
    id_column: IdColumn = None,
    on_error: OnError = "fail",
    max_reject_rate: RejectRate = 0.01,
    resume: Resume = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Compute the teacher's features of queries and pool: one gradient an example.

    Parameters
    ----------
    decoder: a causal language model: Hugging Face folder or hub id
    rank: rows of each random LoRA A; two seeds agree better the higher it is
    width: numbers in the sketch of a gradient
    max_length: tokens of an example that are read
    """
    arguments = dict(locals())
    from influcoder import verbs
    from influcoder.decoder import Decoder
    from influcoder.teachers import TeacherSettings

    read = _reader(prompt_column, completion_column, id_column, on_error, max_reject_rate, output_dir)
    rows = read(queries, "queries"), read(pool, "pool")
    settings = TeacherSettings(rank=rank, width=width, seed=seed, precision=precision)
    loaded = Decoder.load(decoder, adapter=adapter, max_length=max_length)
    found = verbs.features(loaded, *rows, _folder(output_dir, resume, overwrite), settings)
    _finish(output_dir, "features", arguments, found, json)


@app.command
def distill(
    *,
    features: Path,
    output_dir: OutputDir,
    recipe: Literal["static", "paper"] = "static",
    encoder: str | None = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Distil teacher features into an encoder that reads text alone.

    Parameters
    ----------
    features: what `influcoder features` wrote; a seeded 15 % of it is kept for validation
    recipe: static: solved in seconds; paper: a Sentence Transformers model trained as in the paper
    encoder: for the paper's recipe: a Sentence Transformers folder or hub id
    """
    arguments = dict(locals())
    from influcoder import verbs

    found = verbs.distil(features, _folder(output_dir, False, overwrite), recipe=recipe, backbone=encoder, seed=seed)
    _finish(output_dir, "distill", arguments, found, json)


@app.command
def index(
    *,
    encoder: Path,
    pool: Files,
    output_dir: OutputDir,
    prompt_column: PromptColumn = None,
    completion_column: CompletionColumn = None,
    id_column: IdColumn = None,
    on_error: OnError = "fail",
    max_reject_rate: RejectRate = 0.01,
    resume: Resume = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Embed a pool and make it searchable.

    Parameters
    ----------
    encoder: what `influcoder distill` wrote
    """
    arguments = dict(locals())
    from influcoder import verbs
    from influcoder.encoder import InfluenceEncoder

    read = _reader(prompt_column, completion_column, id_column, on_error, max_reject_rate, output_dir)
    loaded = InfluenceEncoder.load(encoder)
    found = verbs.index(loaded, read(pool, "pool"), _folder(output_dir, resume, overwrite))
    _finish(output_dir, "index", arguments, found, json)


@app.command
def search(
    *,
    index: Path,
    encoder: Path,
    prompt: Annotated[str | None, Parameter(name=["--prompt", "--query"])] = None,
    completion: str | None = None,
    queries: Files | None = None,
    k: Annotated[int, Parameter(name=["-k", "--k"])] = 10,
    opponents: Annotated[bool, Parameter(negative="")] = False,
    verify: int = 0,
    decoder: str | None = None,
    adapter: Adapter = None,
    json: Json = False,
) -> None:
    """Show the pool rows that push the model towards a completion, or away from it.

    Parameters
    ----------
    encoder: the encoder that made the index
    prompt: what the model is asked, as a user's turn
    completion: what it says, whose cause is sought
    queries: files of queries instead of one prompt and completion
    k: how many rows to show
    opponents: show what pushes away instead
    verify: how many candidates the decoder's real gradients re-score
    decoder: the decoder the encoder was distilled from; also makes the query's own gradient count
    """
    from influcoder import verbs
    from influcoder.encoder import InfluenceEncoder
    from influcoder.index import Index
    from influcoder.tables import hits_as_json, print_hits

    asked = _asked(prompt, completion, queries)
    loaded = InfluenceEncoder.load(encoder)
    teacher = _load_decoder(decoder, adapter, loaded) if decoder else None
    found = verbs.search(Index(index), loaded, asked, k=k, opponents=opponents, verify=verify, decoder=teacher)
    if json:
        _print_json(hits_as_json(asked, found))
    else:
        print_hits(asked, found, opponents)


@app.command
def select(
    *,
    index: Path,
    encoder: Path,
    queries: Files,
    output_dir: OutputDir,
    top: Share = None,
    drop: Share = None,
    threshold: float | None = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Keep or drop pool rows by their mean influence on some queries; exactly one rule.

    Parameters
    ----------
    encoder: the encoder that made the index
    top: keep this share of highest scores
    drop: leave this share of highest scores out
    threshold: keep scores of at least this
    """
    arguments = dict(locals())
    from influcoder import verbs
    from influcoder.encoder import InfluenceEncoder
    from influcoder.index import Index
    from influcoder.reading import read_examples

    found = verbs.select(
        Index(index),
        InfluenceEncoder.load(encoder),
        read_examples(queries),
        _folder(output_dir, False, overwrite),
        top=_share(top, "--top"),
        drop=_share(drop, "--drop"),
        threshold=threshold,
    )
    _finish(output_dir, "select", arguments, found, json)


@app.command
def evaluate(
    *,
    encoder: Path,
    features: Path,
    output_dir: OutputDir,
    train_features: Path | None = None,
    decoder: str | None = None,
    adapter: Adapter = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Judge an encoder on features of examples it has never seen, beside every rival.

    Parameters
    ----------
    features: what `influcoder features` wrote for the test examples
    train_features: what the encoder was distilled from: the `surface` rival is fitted on it
    decoder: runs the teacher with another seed (the ceiling) and exact queries
    """
    arguments = dict(locals())
    from influcoder import verbs
    from influcoder.encoder import InfluenceEncoder
    from influcoder.report import write_report

    loaded = _load_decoder(decoder, adapter, InfluenceEncoder.load(encoder)) if decoder else None
    found = verbs.evaluate_encoder(
        encoder, features, _folder(output_dir, False, overwrite), train=train_features, decoder=loaded, seed=seed
    )
    write_report(output_dir)
    _finish(output_dir, "evaluate", arguments, found, json)


@app.command
def report(folder: Path) -> None:
    """Write report.html from the metrics.json of a folder; prints its path."""
    from influcoder.report import write_report

    print(write_report(folder))  # noqa: T201


@app.command
def env() -> None:
    """Print versions, for a bug report."""
    from influcoder.tables import print_versions

    print_versions()


def main() -> None:
    """Run the command line; errors of ours are one line on stderr and exit status 1."""
    import signal

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    debug = "--debug" in sys.argv
    words = [word for word in sys.argv[1:] if word != "--debug"]
    try:
        app(words)
    except InflucoderError as error:
        if debug:
            raise
        sys.exit(_fail(str(error), 1))
    except KeyboardInterrupt:
        sys.exit(
            _fail("stopped. Run the same command with --resume to go on, or with --overwrite to start again.", 130)
        )
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)


def _fail(message: str, status: int) -> int:
    from rich.console import Console

    Console(stderr=True, soft_wrap=True).print("error:", style="bold red", end=" ")
    print(message, file=sys.stderr)  # noqa: T201
    return status


def _folder(path: Path, resume: bool, overwrite: bool) -> "Folder":
    from influcoder.verbs import Folder

    return Folder(path, resume, overwrite)


def _reader(
    prompt: str | None, completion: str | None, name: str | None, on_error: Any, max_reject_rate: float, folder: Path
) -> Any:
    """How this command reads its files; rejects go beside the output folder's results."""
    from influcoder.examples import Columns
    from influcoder.reading import read_examples

    def read(files: list[str], side: str) -> "list[Example]":
        rejects = folder.with_name(f"{folder.name}-rejects-{side}.jsonl")
        columns = Columns(prompt=prompt, completion=completion, id=name)
        return read_examples(
            files, columns=columns, on_error=on_error, rejects=rejects, max_reject_rate=max_reject_rate
        )

    return read


def _asked(prompt: str | None, completion: str | None, queries: list[str] | None) -> "list[Example]":
    from influcoder.examples import Example
    from influcoder.reading import read_examples

    if queries:
        return read_examples(queries)
    if not prompt or not completion or not completion.strip():
        raise ConfigError("what is asked? Give --prompt and --completion, or --queries with a file.")
    return [Example("query", prompt, completion, (("user", prompt),))]


def _load_decoder(path: str, adapter: str | None, encoder: Any) -> Any:
    from influcoder.decoder import Decoder

    return Decoder.load(path, adapter=adapter, max_length=encoder.made_by.get("max_length", 1024))


def _share(text: str | None, flag: str) -> float | None:
    if text is None:
        return None
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError as error:
        raise ConfigError(f"{flag} is {text!r}, expected a share such as 5% or 0.05.") from error


def _finish(folder: Path, verb: str, arguments: dict[str, Any], found: dict[str, Any], json: bool) -> None:
    from influcoder.tables import print_numbers

    _write_config(folder, verb, **arguments)
    if json:
        _print_json(found)
    else:
        print_numbers(found, folder)


def _write_config(folder: Path, verb: str, **arguments: Any) -> None:
    """The config.toml that `influcoder run` replays: paths made absolute, defaults included."""
    import json

    from influcoder.atomic import atomic_write

    lines = [f"verb = {json.dumps(verb)}"]
    for name, value in arguments.items():
        if value is None or name in ("resume", "overwrite", "json"):
            continue
        if isinstance(value, Path):
            value = str(value.absolute())
        lines.append(f"{name} = {json.dumps(value, ensure_ascii=False)}")
    atomic_write(folder / "config.toml", ("\n".join(lines) + "\n").encode())


def _print_json(value: Any) -> None:
    import orjson

    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY) + b"\n")


if __name__ == "__main__":
    main()
