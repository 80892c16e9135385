"""The verbs of the student: distill it, judge it."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from influcoder.cli.flags import Files, Output, Seed, refuse_without_decoder
from influcoder.cli.output import finish
from influcoder.cli.teach import checkpoints_of, max_length_of

if TYPE_CHECKING:
    from influcoder.model.decoder import Decoder
    from influcoder.provenance import Provenance


def distill(
    *,
    output: Output,
    features: Path,
    recipe: Literal["static", "forward", "short", "paper"] = "static",
    encoder: str | None = None,
    decoder: str | None = None,
    adapter: str | None = None,
    unlabelled: Files | None = None,
    unlabelled_queries: Files | None = None,
    seed: Seed = 0,
) -> None:
    """Distill teacher features into an encoder that reads text alone.

    Args:
        features: what `influcoder features` wrote; a seeded 15 % of it is kept for validation
        recipe: static: solved in seconds, texts are only looked up; short: reads the gradient of every text cut short
            as well, nearest to the teacher; forward: a forward pass instead; paper: a Sentence Transformers model
            trained as in the paper
        encoder: for the paper's recipe: a Sentence Transformers folder or hub id
        decoder: for the short and the forward recipe, and for --unlabelled: the model that the features come from
        adapter: its LoRA adapter, if it had one
        unlabelled: pool examples without features, for the static and the forward recipe: a short tier is distilled
            first, places them at about half of a gradient each, and the student learns from them too
        unlabelled_queries: the same of queries
    """
    arguments = dict(locals())
    from influcoder.data.reading import read_examples
    from influcoder.student.features_folder import FeaturesFolder
    from influcoder.verbs import distill as verb

    refuse_without_decoder(decoder, adapter=adapter)
    opened = FeaturesFolder(features)
    loaded = decoder_of(opened.provenance, decoder, adapter)
    prepare = loaded.prepare if loaded else None
    further = [read_examples(one, prepare=prepare) if one else [] for one in (unlabelled_queries, unlabelled)]
    found = verb.distill(
        opened,
        output.folder(arguments),
        recipe=recipe,
        backbone=encoder,
        decoder=loaded,
        unlabelled=(further[0], further[1]),
        seed=seed,
    )
    finish("distill", arguments, found, output)


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
    from influcoder.report.page import write_report
    from influcoder.student.encoder import InfluenceEncoder
    from influcoder.student.encoder_folder import read_with
    from influcoder.student.features_folder import FeaturesFolder
    from influcoder.verbs import evaluate as verb

    refuse_without_decoder(decoder, adapter=adapter, checkpoints=checkpoints)
    loaded = InfluenceEncoder.load(encoder)
    model = decoder_of(loaded.provenance, decoder, adapter)
    if model is not None:
        read_with(loaded, model)
    found = verb.evaluate(
        loaded,
        FeaturesFolder(features),
        output.folder(arguments),
        train=FeaturesFolder(train_features) if train_features else None,
        decoder=model,
        checkpoints=checkpoints_of(checkpoints, decoder, loaded.provenance),
        seed=seed,
    )
    write_report(output.output_dir)
    finish("evaluate", arguments, found, output)


def decoder_of(provenance: "Provenance", path: str | None, adapter: str | None) -> "Decoder | None":
    """The decoder at a path, if one is given, reading as many tokens as the one that `provenance` records."""
    from influcoder.model.decoder import Decoder

    if path is None:
        return None
    return Decoder.load(path, adapter=adapter, max_length=max_length_of(provenance))
