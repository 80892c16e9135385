"""The verb that chooses rows."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from influcoder.cli.flags import NO_TRUST, READ_AS_USUAL, Files, Flag, Output, Reading, Trust, share
from influcoder.cli.output import finish
from influcoder.errors import ConfigError


def select(
    *,
    output: Output,
    index: Path | None = None,
    queries: Files | None = None,
    earlier: Annotated[Path | None, Parameter(name=["--earlier", "--from"])] = None,
    top: str | None = None,
    drop: str | None = None,
    threshold: float | None = None,
    rows: int | None = None,
    tokens: int | None = None,
    by: Literal["mean", "max", "round-robin", "diverse"] = "mean",
    against: Files | None = None,
    unwanted: Flag = False,
    distinct: float | None = None,
    cap: Files | None = None,
    quota: Files | None = None,
    format: Literal["jsonl", "parquet", "dataset", "none"] = "jsonl",
    mask_tokens: str | None = None,
    decoder: str | None = None,
    adapter: str | None = None,
    checkpoints: Files | None = None,
    trust: Trust = NO_TRUST,
    reading: Reading = READ_AS_USUAL,
) -> None:
    """Keep pool rows by their influence on some queries, within exactly one budget, and say of every row why.

    Budgets: --top, --drop, --threshold, --rows, --tokens. The rows that are kept are written in their own columns.

    Args:
        index: what `influcoder index` wrote
        queries: JSONL (.gz, .zst) or Parquet files, folders or globs: the behaviour that is wanted
        earlier: an earlier selection instead of index and queries: another rule on the same scores
        top: keep this share of highest scores, as 5% or 0.05
        drop: leave this share of highest scores out: the queries show what is unwanted
        threshold: keep scores of at least this
        rows: keep so many rows
        tokens: keep rows of so many tokens together, by the encoder's tokenizer
        by: how the queries' scores become one order; round-robin: queries take turns, diverse: rows first that add to
            the queries that have least
        against: files of control queries, whose mean influence is taken off
        unwanted: keep the lowest scores, within the budget: the queries show what is unwanted
        distinct: leave out rows that are as similar as this to a kept one (Jaccard similarity, such as 0.8)
        cap: at most so much of the budget of each value of a column, as source=20%, or of one, as source=web:10%; or so
            many rows, as source=500
        quota: the best rows of a value first, as genre=code:30%
        format: how the kept rows are written; none: not at all
        mask_tokens: write a loss mask with each kept row: of all their tokens, 0 for this share of those that push away
            most, by real gradients; goes with --decoder
        decoder: the one the encoder was distilled from: the queries' own gradients then choose, better than their text;
            an encoder of the short or forward tier needs it, and so does --mask-tokens
        adapter: its LoRA adapter, if it had one
        checkpoints: those the teacher took its gradients from, if it did
    """
    arguments = dict(locals())
    from influcoder.attribution.selection import Selection
    from influcoder.verbs import select as verb
    from influcoder.verbs.opening import open_any_index

    rule: dict[str, Any] = {
        "top": share(top, "--top"),
        "drop": share(drop, "--drop"),
        "threshold": threshold,
        "rows": rows,
        "tokens": tokens,
        "unwanted": unwanted,
        "distinct": distinct,
        "cap": cap or (),
        "quota": quota or (),
    }
    mask = None
    if earlier is not None:
        if index or queries or against or decoder or mask_tokens or by != "mean":
            raise ConfigError(
                "--from selects by another rule from scores that are there: leave --index, --queries, --against, --by, "
                "--mask-tokens and --decoder out."
            )
        selection = Selection.load(earlier).rethreshold(**rule)
    elif index is None or not queries:
        raise ConfigError("what is selected from? Give --index and --queries, or --from with an earlier selection.")
    elif mask_tokens and not decoder:
        raise ConfigError("--mask-tokens takes real gradients: name the decoder that the encoder is of with --decoder.")
    else:
        opened, model = open_any_index(index, decoder, adapter, checkpoints=checkpoints)
        examples = reading.read(queries, "queries", output, model)
        control = reading.read(against, "against", output, model) if against else None
        selection = verb.select(
            opened, examples, by=by, against=control, decoder=model, checkpoints=checkpoints, **rule
        )
        if mask_tokens and model:
            mask = verb.Mask(share(mask_tokens, "--mask-tokens") or 0, examples, control, model)
    metrics = verb.write_selection(selection, output.folder(arguments), format, mask=mask)
    finish("select", arguments, metrics, output)
