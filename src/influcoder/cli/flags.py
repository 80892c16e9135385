"""Flags that several verbs share: frozen dataclasses, flattened into flags, one place for name, default and help."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from influcoder.errors import ConfigError

if TYPE_CHECKING:
    from influcoder.data.examples import Example
    from influcoder.data.parts import Columns
    from influcoder.model.decoder import Decoder
    from influcoder.runners.runner import Runner
    from influcoder.store.output_folder import Folder
    from influcoder.teachers.imported import Imported
    from influcoder.teachers.settings import TeacherSettings

SOURCES = ("query_features", "pool_features", "scores", "bergson_queries", "bergson_pool", "query_ids", "pool_ids")
INPUTS = (
    *("decoder", "search_decoder", "adapter", "checkpoints", "queries", "like", "pool", "add", "unlabelled", "against"),
    *("unlabelled_queries", "features", "train_features", "encoder", "earlier", "index", "data"),
    *SOURCES,
)
"the arguments that name what a verb reads: paths, globs or hub ids"


def _check_seed(_: object, seed: int) -> None:
    if not 0 <= seed < 2**31:
        raise ConfigError(f"--seed is {seed}, expected 0 to {2**31 - 1}.")


Files = Annotated[list[str], Parameter(consume_multiple=True, negative="")]
Flag = Annotated[bool, Parameter(negative="")]
Seed = Annotated[int, Parameter(validator=_check_seed, help="seed of everything random, from 0 to 2147483647")]


@Parameter(name="*")
@dataclass(frozen=True)
class Output:
    """Where a verb writes, and how it prints."""

    output_dir: Path
    "folder to write; refused when it is not empty"
    overwrite: Flag = False
    "empty the folder first"
    json: Flag = False
    "print the numbers as JSON"

    def folder(self, arguments: Mapping[str, Any]) -> "Folder":
        """The folder, apart from what a verb with these arguments reads."""
        from influcoder.store.output_folder import Folder, local_inputs

        values = flat(arguments)
        inputs = local_inputs(*(values.get(name) for name in (*INPUTS, "rows")))  # rows may be a number
        return Folder(self.output_dir, getattr(self, "resume", False), self.overwrite, inputs)


@Parameter(name="*")
@dataclass(frozen=True)
class ResumableOutput(Output):
    """The same for a long job."""

    resume: Flag = False
    "continue an earlier, stopped run in the folder"


@Parameter(name="*")
@dataclass(frozen=True)
class Reading:
    """How rows become examples."""

    prompt_column: str | None = None
    "column of the prompt; detected by name when omitted"
    completion_column: str | None = None
    "column of the completion; detected by name when omitted"
    text_column: str | None = None
    "column of plain text, all of which carries loss"
    id_column: str | None = None
    "column of the id; a hash of the text when there is none"
    pairs: Literal["chosen", "rejected", "both"] | None = None
    "which side of preference pairs to read; both makes two rows of each, and a column preference says which"
    loss: Literal["completion", "assistant", "all"] = "completion"
    "what carries loss in a chat: its last turn, every turn of the assistant, or the whole text"
    on_error: Literal["fail", "skip"] = "fail"
    "stop at a row that cannot be used, or leave it out"
    max_reject_rate: float = 0.01
    "with --on-error skip: the largest share of such rows"

    def read(self, files: list[str], side: str, output: Output, decoder: "Decoder | None" = None) -> "list[Example]":
        """Examples of some files; skipped rows go to OUTPUT_DIR-rejects-SIDE.jsonl, beside the output folder.

        Rows that the decoder cannot read, if there is one, are refused or skipped as well.
        """
        return list(self.stream(files, side, output, decoder))

    def stream(
        self, files: list[str], side: str, output: Output, decoder: "Decoder | None" = None
    ) -> "Iterator[Example]":
        """The same, one at a time; missing files are refused at once."""
        from influcoder.data.reading import stream_examples
        from influcoder.data.row_files import find_files

        return stream_examples(
            [path for pattern in files for path in find_files(pattern)],
            columns=self.columns(),
            on_error=self.on_error,
            rejects=Path(f"{os.path.abspath(output.output_dir)}-rejects-{side}.jsonl"),
            max_reject_rate=self.max_reject_rate,
            prepare=decoder.prepare if decoder else None,
        )

    def columns(self) -> "Columns":
        """The columns that were named, and what is read of them."""
        from influcoder.data.parts import Columns

        names = (self.prompt_column, self.completion_column, self.text_column, self.id_column)
        return Columns(*names, pairs=self.pairs, loss=self.loss)


READ_AS_USUAL = Reading()


@Parameter(name="*")
@dataclass(frozen=True)
class Trust:
    """What the user trusts. It has to be typed each time: it is not kept in config.toml."""

    trust_remote_code: Flag = False
    "run the Python code that the decoder's folder holds (auto_map); read it first"

    def __post_init__(self) -> None:
        if self.trust_remote_code:
            from influcoder.model import remote_code

            remote_code.allow(True)


NO_TRUST = Trust()


@Parameter(name="*")
@dataclass(frozen=True)
class Running:
    """What makes the shards of a long job; the result is the same."""

    workers: int | None = None
    "worker processes on this machine, or actors of the Ray cluster; each holds a model of its own"
    ray: str | None = None
    "give the shards to a Ray cluster: its address, auto for the one this machine is part of, local to start one"
    worker_timeout: float | None = None
    "seconds without a row (with --ray: for a shard) after which a worker counts as hanging and is replaced"
    shard: str | None = None
    "this process's share of the work, as 2/8; its launcher's rank and world size when omitted"

    def runner(self) -> "Runner":
        """What runs the shards."""
        from influcoder.runners.actors import RayActors
        from influcoder.runners.processes import Processes
        from influcoder.runners.runner import InProcess

        if self.ray is not None:
            return RayActors(self.ray, workers=self.workers, timeout_s=self.worker_timeout)
        if self.workers is not None:
            return Processes(self.workers, timeout_s=self.worker_timeout)
        if self.worker_timeout is not None:
            raise ConfigError("--worker-timeout was given without workers. Give --workers or --ray as well.")
        return InProcess()


BY_ITSELF = Running()


@Parameter(name="*")
@dataclass(frozen=True)
class Teaching:
    """Which teacher, and changes to its settings; its own settings are used when omitted."""

    teacher: str = "gradient-cosine"
    "its name: `influcoder teachers` lists them"
    rank: int | None = None
    "rows of each random projection of a layer; two seeds agree better the higher it is"
    width: int | None = None
    "numbers in the sketch of a gradient; 0 for none"
    similarity: Literal["cosine", "dot"] | None = None
    "compare directions, or keep lengths"
    damping: float | None = None
    "of a curvature, as a share of its mean eigenvalue"
    modules: Files | None = None
    "patterns of layers to include, as `*.mlp.*`, or leave out, as `!*.gate`; all linear ones but the head if none"
    normalise_modules: Flag = False
    "scale each layer's part to unit length"
    reduction: Literal["mean", "sum"] | None = None
    "of a pool row's loss: mean over its tokens, or sum, as trainers count that take the mean over a batch's tokens"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    "of the products: auto is bf16 where the processor has it"
    token_budget: int = 1024
    "padded tokens that go through the model together; halved where memory runs out"

    def settings(self, seed: int) -> "TeacherSettings":
        """The teacher's settings with these changes."""
        from influcoder.teachers.settings import TeacherSettings

        changes = {name: value for name, value in vars(self).items() if name != "teacher"}
        changes["normalise_modules"] = self.normalise_modules or None
        changes["modules"] = " ".join(self.modules) if self.modules else None
        return TeacherSettings.named(self.teacher, seed=seed, **changes)


PAPERS_TEACHER = Teaching()


@Parameter(name="*")
@dataclass(frozen=True)
class Attribution:
    """The results of another tool: exactly one kind of them."""

    query_features: Path | None = None
    "features of the queries, a vector each, as .npy, .safetensors or Parquet; goes with --pool-features"
    pool_features: Path | None = None
    "the same for the pool; influence is the inner product of two vectors"
    scores: Path | None = None
    "or a score for each query and pool example: a matrix, or Parquet with query_id, pool_id and score"
    bergson_queries: Path | None = None
    "or the folder of a bergson gradient index of the queries; goes with --bergson-pool"
    bergson_pool: Path | None = None
    "the same for the pool"
    query_ids: Path | None = None
    "the ids of the query vectors in order, one per line or a JSON list; the order of the examples when omitted"
    pool_ids: Path | None = None
    "the same for the pool"
    tensor: str | None = None
    "which tensor of a safetensors file that holds several"
    score_rows: Literal["queries", "pool"] | None = None
    "what the rows of a matrix of scores are; inferred from ids or shape when omitted"

    def read(self, queries: "list[Example]", pool: "list[Example]") -> "Imported":
        """The results, matched with the examples."""
        from influcoder.teachers import imported as imports

        given = {name: getattr(self, name) for name in SOURCES[:5] if getattr(self, name)}
        ids: dict[str, Any] = {"query_ids": self.query_ids, "pool_ids": self.pool_ids}
        if self.score_rows and self.scores is None:
            raise ConfigError("--score-rows says how to read --scores, which was not given. Leave it out.")
        match list(given), list(given.values()):
            case ["query_features", "pool_features"], [of_queries, of_pool]:
                return imports.from_features(of_queries, of_pool, queries, pool, tensor=self.tensor, **ids)
            case ["scores"], [path]:
                return imports.from_scores(path, queries, pool, tensor=self.tensor, rows=self.score_rows, **ids)
            case ["bergson_queries", "bergson_pool"], [of_queries, of_pool] if not self.tensor:
                return imports.from_bergson(of_queries, of_pool, queries, pool, **ids)
            case ["bergson_queries", "bergson_pool"], _:
                raise ConfigError("a bergson index has no tensors by name. Leave --tensor out.")
        flags = " and ".join("--" + name.replace("_", "-") for name in given) or "none"
        raise ConfigError(
            "give exactly one of --query-features with --pool-features, --scores, and --bergson-queries with "
            f"--bergson-pool; {flags} was given."
        )


NOT_GIVEN = Attribution()


def flat(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A verb's arguments by name, including those of shared flags."""
    values: dict[str, Any] = {}
    for name, value in arguments.items():
        values |= asdict(value) if is_dataclass(value) and not isinstance(value, type) else {name: value}
    return values


def share(text: str | None, flag: str) -> float | None:
    """A share such as 5% or 0.05 as a number."""
    if text is None:
        return None
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError as error:
        raise ConfigError(f"{flag} is {text!r}, expected a share such as 5% or 0.05.") from error
