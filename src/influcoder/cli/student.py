"""The verbs of the student: distill it, evaluate it."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from influcoder.cli.flags import NO_TRUST, Files, Output, Seed, Trust
from influcoder.cli.flags import share as share_of
from influcoder.cli.output import finish
from influcoder.errors import ConfigError


def distill(
    *,
    output: Output,
    features: Path,
    recipe: Literal["static", "forward", "short", "paper"] = "static",
    cost: str | None = None,
    encoder: str | None = None,
    decoder: str | None = None,
    adapter: str | None = None,
    trust: Trust = NO_TRUST,
    unlabelled: Files | None = None,
    unlabelled_queries: Files | None = None,
    earlier: Annotated[str | None, Parameter(name=["--earlier", "--from"])] = None,
    share: str | None = None,
    seed: Seed = 0,
) -> None:
    """Distill teacher features into an encoder that reads text alone.

    With fewer than 20 queries, pool rows take the role of queries as well; one query is enough if questions come with
    their own gradient (`influcoder search --decoder`).

    --from ENCODER refreshes an encoder of the static tier for a later state of its decoder: a share of the features is
    recomputed with --decoder, the others are kept.

    Args:
        features: what `influcoder features` wrote; a seeded 15 % of it is held out for validation
        recipe: static: solved in seconds, texts are only looked up; short: reads the gradient of every text cut short
            as well, nearest to the teacher; forward: a forward pass instead; paper: a Sentence Transformers model
            trained as in the paper
        cost: instead of a recipe: what reading a text may cost, as a share of a gradient such as 10%; students that
            read more or less of the decoder are measured and distilled, and the best on validation is kept
        encoder: for the paper's recipe: a Sentence Transformers folder or hub id
        decoder: for --cost, the short and the forward recipe, and --unlabelled: the model the features come from
        adapter: its LoRA adapter, if it had one
        unlabelled: pool examples without features, for the static and the forward recipe: a short tier is distilled
            first, labels them at about half the cost of a gradient each, and the student learns from them too
        unlabelled_queries: the same for queries
        earlier: the encoder to refresh, which --features were distilled into; --decoder is the later state
        share: with --from, the share of the rows that get a new gradient, as 20% (the default) or 0.2
    """
    arguments = dict(locals())
    from influcoder.verbs import distill as verb
    from influcoder.verbs.refresh import SHARE

    recomputed = share_of(share, "--share")
    if share is not None and earlier is None:
        raise ConfigError("--share is for --from, which was not given. Leave it out.")
    metrics = verb.distill(
        features,
        output.folder(arguments),
        recipe=recipe,
        cost=share_of(cost, "--cost"),
        backbone=encoder,
        decoder=decoder,
        adapter=adapter,
        unlabelled=(unlabelled_queries, unlabelled),
        earlier=earlier,
        share=SHARE if recomputed is None else recomputed,
        seed=seed,
    )
    finish("distill", arguments, metrics, output)


def evaluate(
    *,
    output: Output,
    encoder: str,
    features: Path,
    train_features: Path | None = None,
    decoder: str | None = None,
    adapter: str | None = None,
    trust: Trust = NO_TRUST,
    checkpoints: Files | None = None,
    seed: Seed = 0,
) -> None:
    """Evaluate an encoder on features of examples it has never seen, beside other methods.

    Args:
        encoder: what `influcoder distill` wrote, or its hub id
        features: what `influcoder features` wrote for the test examples
        train_features: what the encoder was distilled from: methods that need training are trained on it
        decoder: runs the teacher with another seed (the ceiling) and exact queries
        adapter: its LoRA adapter, if it had one
        checkpoints: those the teacher took its gradients from, if it did
    """
    arguments = dict(locals())
    from influcoder.report.page import write_report
    from influcoder.verbs import evaluate as verb

    metrics = verb.evaluate(
        encoder,
        features,
        output.folder(arguments),
        train=train_features,
        decoder=decoder,
        adapter=adapter,
        checkpoints=checkpoints,
        seed=seed,
    )
    write_report(output.output_dir)
    finish("evaluate", arguments, metrics, output)
