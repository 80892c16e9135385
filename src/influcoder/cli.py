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


@Parameter(name="*")
class Rows:
    """How rows are read."""


@app.command
def demo(*, output_dir: OutputDir, seed: Seed = 0, overwrite: Overwrite = False, json: Json = False) -> None:
    """Run the whole path on the built-in demo world: about two minutes on two cores."""
    from influcoder.atomic import claim
    from influcoder.demo.run import run_demo
    from influcoder.tables import print_demo

    with claim(output_dir, overwrite=overwrite) as folder:
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
        raise ConfigError(f"{config}: not a config of a run ({error!r}); expected the config.toml of an output folder.") from error
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

    folder = _folder(output_dir, resume, overwrite)
    reading = _Reading(prompt_column, completion_column, id_column, on_error, max_reject_rate)
    rows = [reading.read(files, output_dir, f"rejects-{side}.jsonl") for side, files in (("queries", queries), ("pool", pool))]
    settings = TeacherSettings(rank=rank, width=width, seed=seed, precision=precision, max_length=max_length)
    loaded = Decoder.load(decoder, adapter=adapter, max_length=max_length)
    found = verbs.features(loaded, rows[0], rows[1], folder, settings)
    reading.write_rejects(output_dir)
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
