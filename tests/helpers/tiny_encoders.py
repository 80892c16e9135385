"""A tiny encoder of a tier in a folder, and an index of sentences made with it in shards of eight, by any runner."""

from pathlib import Path

from helpers.sentences import sentences
from helpers.tiny import save_decoder
from influcoder.indexes import build as indexing
from influcoder.model.decoder import Decoder
from influcoder.store.output_folder import Folder
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.features_folder import FeaturesFolder
from influcoder.teachers.settings import TeacherSettings
from influcoder.verbs import features as feature_verbs
from influcoder.verbs.distill import distill

SETTINGS = TeacherSettings(rank=4, width=512, precision="fp32")


def save_encoder(folder, tokenizer, tier="static"):
    """(its folder, its decoder)"""
    decoder = Decoder.load(save_decoder(folder / "decoder", tokenizer), device="cpu")
    feature_verbs.features(decoder, sentences(30, 1, "q"), sentences(60, 2, "p"), Folder(folder / "train"), SETTINGS)
    distill(
        FeaturesFolder(folder) / "train",
        Folder(folder / tier),
        recipe=tier,
        decoder=None if tier == "static" else decoder,
    )
    return folder / tier, decoder


def index_sentences(encoder, folder, runner, decoder=None):
    loaded = InfluenceEncoder.load(encoder, decoder=decoder) if isinstance(encoder, Path) else encoder
    return indexing.build(loaded, iter(sentences(60, 3, "x")), folder, runner=runner, shard_rows=8)[0]
