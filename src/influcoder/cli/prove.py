"""The verb `prove`: what a model answers when it was trained without the rows that a search blames."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cyclopts import Parameter

from influcoder.cli.flags import NO_TRUST, READ_AS_USUAL, Files, Reading, ResumableOutput, Trust
from influcoder.cli.output import print_json, write_config
from influcoder.errors import ConfigError


@Parameter(name="*")
@dataclass(frozen=True)
class Tuning:
    """How this package fine-tunes."""

    epochs: int = 2
    "passes over the rows"
    learning_rate: float = 5e-4
    "its peak, reached after a tenth of the steps"
    rows_a_step: int = 8
    "rows of a step of the optimizer"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    "of the products: auto is bf16 where the processor has it"


AS_USUAL = Tuning()


def prove(
    *,
    output: ResumableOutput,
    index: Path,
    decoder: str,
    queries: Files,
    remove: int | None = None,
    rows: Path | None = None,
    controls: str = "random,tfidf",
    seeds: int = 3,
    verify: int = 0,
    search_decoder: str | None = None,
    checkpoints: Files | None = None,
    train_command: str | None = None,
    tuning: Tuning = AS_USUAL,
    trust: Trust = NO_TRUST,
    reading: Reading = READ_AS_USUAL,
) -> None:
    """Train again without the rows that a search blames, and without others, and see whether the answers change.

    Args:
        index: what `influcoder index` wrote: its rows are what is trained on
        decoder: the model before it was trained on them: a Hugging Face folder or hub id
        queries: what was asked and answered: JSONL (.gz, .zst) or Parquet files, folders or globs
        remove: how many rows are left out in all: the best hit of every query, then the second of every query ...; 20
            when omitted
        rows: leave these out in place of those that a search blames: a file of ids, one a line or a JSON list, or what
            `influcoder select` wrote, whose rejected rows are meant
        controls: what is left out beside: random other rows, the first rows by tfidf, or both, with a comma between
        seeds: how many times each is trained; a seed draws the order of the rows, and the random ones
        verify: how many candidates of a query real gradients re-score
        search_decoder: the decoder the encoder was distilled from: the query's own gradient is then used; --decoder
            itself when --verify is given without it
        checkpoints: those the teacher took its gradients from, if it did
        train_command: what trains in this package's place, run once a training: 'python train.py {data} {output}'
            gets a JSONL file of the rows, leaves a Hugging Face folder, and may use {seed}
    """
    arguments = dict(locals())
    from influcoder.model.finetune import FinetuneSettings
    from influcoder.report.proof import print_proof
    from influcoder.verbs import prove as verb
    from influcoder.verbs.opening import open_decoder, open_whole_index

    if train_command is not None and tuning != AS_USUAL:
        raise ConfigError(
            "--train-command trains by itself: leave --epochs, --learning-rate, --rows-a-step and --precision out."
        )
    settings = FinetuneSettings(tuning.epochs, tuning.learning_rate, tuning.rows_a_step, precision=tuning.precision)
    whole_index = open_whole_index(index)
    base = open_decoder(decoder, None, whole_index.encoder.provenance)
    metrics, answers = verb.write_proof(
        whole_index,
        reading.read(queries, "queries", output, base),
        output.folder(arguments),
        decoder=base,
        remove=remove,
        rows=rows,
        controls=[name.strip() for name in controls.split(",") if name.strip()],
        seeds=seeds,
        verify=verify,
        search_decoder=search_decoder,
        checkpoints=checkpoints,
        train_command=train_command,
        settings=settings,
        tell=lambda cost: print(cost, file=sys.stderr),  # noqa: T201
    )
    write_config(output.output_dir, "prove", arguments)
    if output.json:
        print_json(metrics)
    else:
        print_proof(metrics, answers, output.output_dir)
