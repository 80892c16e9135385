"""Which decoder answers a prompt: that of the gradients, or the one that was trained on the rows."""

import pytest

from helpers.tiny import save_decoder
from influcoder.model.decoder import Decoder
from influcoder.serve.explorer import Explorer
from influcoder.serve.settings import ServeSettings
from influcoder.serve.wire import Question

PROMPT = "What is the capital of France?"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("trained") / "trained"
    save_decoder(folder, tokenizer, seed=5)
    return folder


def asked(made, state, **more):
    """An explorer, and what the prompt is answered with."""
    explorer = Explorer(ServeSettings(made / "index", state_dir=state, **more))
    explorer.load()
    return explorer, explorer.prepare(Question(prompt=PROMPT)).asked


def test_another_decoder_may_answer(made, trained, tmp_path):
    base = str(made / "decoder")
    explorer, other = asked(made, tmp_path / "a", decoder=base, answers_from=str(trained))
    _, own = asked(made, tmp_path / "b", decoder=base)
    assert other.own_answer
    assert other.completion != own.completion
    assert other.completion == Decoder.load(trained).answer(explorer.prepare(Question(prompt=PROMPT)).example, 64)
    assert explorer.teacher.decoder is explorer.decoder is not explorer.answering
    assert explorer.provenance().answers_from == str(trained)
    assert explorer.provenance().decoder == base


def test_it_answers_where_nothing_takes_gradients(made, trained, tmp_path):
    explorer, answered = asked(made, tmp_path / "a", answers_from=str(trained))
    assert answered.own_answer
    assert answered.completion
    assert explorer.decoder is explorer.teacher is None
