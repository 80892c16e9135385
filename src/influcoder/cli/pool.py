"""The verbs of the index: build and change it, search it, score all of it."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from influcoder.cli.flags import (
    BY_ITSELF,
    NO_TRUST,
    READ_AS_USUAL,
    Files,
    Flag,
    Output,
    Reading,
    ResumableOutput,
    Running,
    Trust,
)
from influcoder.cli.output import finish, print_json, show
from influcoder.errors import ConfigError


def index(
    *,
    output: ResumableOutput,
    encoder: str | None = None,
    pool: Files | None = None,
    add: Files | None = None,
    remove: Files | None = None,
    refresh: Flag = False,
    code: Literal["auto", "float16", "int8", "int4"] = "auto",
    approximate: Flag = False,
    running: Running = BY_ITSELF,
    decoder: str | None = None,
    adapter: str | None = None,
    trust: Trust = NO_TRUST,
    reading: Reading = READ_AS_USUAL,
) -> None:
    """Embed a pool of any size and make it searchable; or change an existing index.

    --workers N divides a machine's cores among N processes, --ray gives the shards to a Ray cluster. Several processes
    share a job when each is started with its own --shard I/N and the same output folder.

    Args:
        encoder: what `influcoder distill` wrote, or its hub id
        pool: JSONL (.gz, .zst) or Parquet files, folders, globs or URLs such as hf://datasets/NAME
        add: such files, whose rows are appended to the finished index in the output folder
        remove: ids, or files of ids (one per line, or a JSON list), to remove from the index in the output folder
        refresh: update the index in the output folder to --encoder and --pool, or one of them: only what changed is
            embedded, and readers see the old index until the new one is complete
        code: how vectors are stored; auto: in as few bytes as keep the rankings of the first rows
        approximate: make an IVF-PQ index as well, and measure its recall
        decoder: what an encoder of the short or forward tier reads texts with
        adapter: its LoRA adapter, if it had one
    """
    arguments = dict(locals())
    from influcoder.runners.share import Share
    from influcoder.verbs import index as verb
    from influcoder.verbs.opening import open_any_index, open_encoder

    if add or remove:
        if refresh or encoder or pool or running != BY_ITSELF or output.overwrite:
            raise ConfigError(
                "--add and --remove change the index in --output-dir, with its own encoder and in this process. Leave "
                "--refresh, --encoder, --pool, --workers, --ray, --worker-timeout, --shard and --overwrite out."
            )
        model = open_any_index(output.output_dir, decoder, adapter)[1]
        changed = verb.change_index(
            output.output_dir,
            add=reading.stream(add, "add", output, model) if add else None,
            remove=_ids(remove or []),
            approximate=approximate,
            decoder=model,
        )
        show(changed, output)
        return
    if refresh:
        if code != "auto" or running != BY_ITSELF or output.overwrite or not (encoder or pool):
            raise ConfigError(
                "--refresh updates the index in --output-dir, in its own code and in this process. Give "
                "--encoder, --pool or both, and leave --code, --workers, --ray, --worker-timeout, --shard and "
                "--overwrite out."
            )
        reader = open_encoder(encoder, decoder, adapter)[1] if encoder else None
        updated = verb.refresh_index(
            output.output_dir,
            encoder=encoder,
            pool=reading.stream(pool, "pool", output, reader) if pool else None,
            approximate=approximate,
            decoder=reader or decoder,
            adapter=None if reader else adapter,
        )
        show(updated, output)
        return
    if encoder is None or not pool:
        raise ConfigError("nothing to index. Give --encoder and --pool; or --add or --remove to change an index.")
    loaded, model = open_encoder(encoder, decoder, adapter)
    metrics = verb.index(
        loaded,
        reading.stream(pool, "pool", output, model),
        replace(output.folder(arguments), share=Share.read(running.shard)),
        code=code,
        approximate=approximate,
        runner=running.runner(),
    )
    finish("index", arguments, metrics, output)


def search(
    *,
    index: Path,
    prompt: Annotated[str | None, Parameter(name=["--prompt", "--query"])] = None,
    completion: str | None = None,
    queries: Files | None = None,
    k: Annotated[int, Parameter(name=["-k", "--k"])] = 10,
    opponents: Flag = False,
    verify: int = 0,
    certify: int = 0,
    tokens: Flag = False,
    decoder: str | None = None,
    adapter: str | None = None,
    trust: Trust = NO_TRUST,
    checkpoints: Files | None = None,
    where: str | None = None,
    approximate: Flag = False,
    verify_hashes: Flag = False,
    output: Path | None = None,
    json: Flag = False,
) -> None:
    """Show the pool rows that push the model towards a completion, or away from it.

    Args:
        index: what `influcoder index` or `influcoder export` wrote
        prompt: what the model is asked, as a user's turn
        completion: what it answers; the decoder's own answer when omitted
        queries: files of queries instead of one prompt and completion
        k: how many rows to show
        opponents: show the rows that push away instead
        verify: how many candidates to re-score with the decoder's exact gradients
        certify: how many random other rows to score exactly too, to bound what was missed
        tokens: highlight the tokens of each row, and of the answer, that carry the re-checked score
        decoder: the decoder the encoder was distilled from: the query's own gradient is then used
        adapter: its LoRA adapter, if it had one
        checkpoints: those the teacher took its gradients from, if it did
        where: search only rows whose metadata meets these conditions, as genre=code,tokens<200
        approximate: search the IVF-PQ index that `influcoder index --approximate` made, not every row
        verify_hashes: read and check every file of the index first, not only those that are needed
        output: also write the rows there, with the shares of their tokens: a .parquet or .jsonl file
        json: print the rows as JSON
    """
    from influcoder.attribution.hits_file import refuse_other_file, write_hits
    from influcoder.report.console import hits_as_json, print_hits
    from influcoder.verbs import search as verb
    from influcoder.verbs.opening import open_any_index, open_checkpoints

    verb.refuse_no_question(queries, prompt, completion, decoder)
    if output:
        refuse_other_file(output)
    opened, model = open_any_index(index, decoder, adapter, checkpoints=checkpoints)
    questions = verb.questions(queries, prompt, completion, model)
    answered = not queries and completion is None
    if verify_hashes:
        opened.verify()
    results = verb.search(
        opened,
        questions,
        k=k,
        opponents=opponents,
        verify=verify,
        certify=certify,
        tokens=tokens,
        decoder=model,
        checkpoints=open_checkpoints(checkpoints, decoder, opened.encoder.provenance),
        where=where,
        approximate=approximate,
    )
    if output:
        write_hits(output, questions, results)
    if json:
        print_json(hits_as_json(questions, results, answered=answered))
    else:
        print_hits(questions, results, opponents, answered=answered)


def score(
    *,
    output: Output,
    index: Path,
    queries: Files,
    where: str | None = None,
    decoder: str | None = None,
    adapter: str | None = None,
    checkpoints: Files | None = None,
    trust: Trust = NO_TRUST,
    reading: Reading = READ_AS_USUAL,
) -> None:
    """Write the score of every pool row for every query as scores.parquet: id, and a column score:ID for each query.

    Args:
        index: what `influcoder index` wrote
        queries: JSONL (.gz, .zst) or Parquet files, folders, globs or URLs
        where: score only rows whose metadata meets these conditions, as genre=code,tokens<200
        decoder: the one the encoder was distilled from: the queries' own gradients are then used; an encoder of the
            short or forward tier needs it
        adapter: its LoRA adapter, if it had one
        checkpoints: those the teacher took its gradients from, if it did
    """
    arguments = dict(locals())
    from influcoder.verbs import score as verb
    from influcoder.verbs.opening import open_any_index, open_asking_teacher, open_whole_index

    opened, model = open_any_index(index, decoder, adapter, checkpoints=checkpoints)
    examples = reading.read(queries, "queries", output, model)
    teacher = open_asking_teacher(opened.encoder, model, checkpoints)
    folder = output.folder(arguments)
    metrics = verb.write_scores(open_whole_index(opened), examples, folder, teacher=teacher, where=where)
    finish("score", arguments, metrics, output)


def _ids(arguments: list[str]) -> list[str]:
    """Ids as typed, and those in the files among them."""
    from influcoder.teachers.matrices import read_ids

    return [name for word in arguments for name in (read_ids(Path(word)) if Path(word).is_file() else [word])]
