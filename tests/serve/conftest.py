"""Real services over a tiny index: one that only searches, one with its decoder; started once each."""

import pytest

from helpers.served import index_of_tagged, serving
from helpers.tiny_encoders import save_encoder


@pytest.fixture(scope="session")
def made(tmp_path_factory, tokenizer):
    """A folder with `index`, `decoder`, and the `static` encoder that was distilled from it."""
    folder = tmp_path_factory.mktemp("served")
    encoder, _ = save_encoder(folder, tokenizer)
    index_of_tagged(folder, encoder)
    return folder


@pytest.fixture(scope="session")
def served(made, tmp_path_factory):
    """A service without a decoder."""
    with serving("--index", made / "index", "--state-dir", tmp_path_factory.mktemp("state")) as running:
        yield running


@pytest.fixture(scope="session")
def served_with_decoder(made, tmp_path_factory):
    """A service with the decoder."""
    state = tmp_path_factory.mktemp("state-decoder")
    with serving("--index", made / "index", "--decoder", made / "decoder", "--state-dir", state) as running:
        yield running
