import gc
import os
import signal
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("helpers")
settings.register_profile(
    "steady", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")


def pytest_configure(config):
    from helpers import docstring_examples  # after its assertions are registered

    config.pluginmanager.register(docstring_examples)  # src/ is tested too, and has no conftest of its own
    # PEFT reads a property that transformers has renamed.
    config.addinivalue_line("filterwarnings", "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def pytest_collection_finish():
    """What collecting has imported and made stays: the Trainer collects garbage, and would walk through all of it."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def forked_workers(monkeypatch):
    """Workers that need not import what they work with."""
    from helpers.forks import SERVER
    from influcoder.runners import processes

    monkeypatch.setattr(processes, "_SPAWN", SERVER)


@pytest.fixture(scope="session")
def tokenizer():
    from helpers.tiny import tiny_tokenizer

    return tiny_tokenizer()


@pytest.fixture(scope="session")
def chat_tokenizer():
    from helpers.tiny import tiny_tokenizer

    return tiny_tokenizer(chat=True)


@pytest.fixture
def decoder(tokenizer):
    from helpers.tiny import tiny_decoder

    return tiny_decoder("llama", tokenizer)


@pytest.fixture
def chat_decoder(chat_tokenizer):
    from helpers.tiny import tiny_decoder

    return tiny_decoder("llama", chat_tokenizer)


@pytest.fixture
def call(monkeypatch, capfdbinary):
    """Runs the command line in this process: (exit status, stdout, stderr)."""

    from influcoder import cli

    def in_process(*words):
        monkeypatch.setattr(sys, "argv", ["influcoder", *map(str, words)])
        before = signal.getsignal(signal.SIGTERM)
        try:
            cli.main()
            status = 0
        except SystemExit as stopped:
            status = stopped.code or 0
        finally:
            signal.signal(signal.SIGTERM, before)
        out, err = capfdbinary.readouterr()
        return status, out.decode(), err.decode()

    return in_process


@pytest.fixture(scope="session")
def tiny_bert(tokenizer, tmp_path_factory):
    from helpers.bert import save_bert

    return save_bert(tmp_path_factory.mktemp("bert"), tokenizer)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    from helpers.hub import stand_in

    return stand_in(monkeypatch, tmp_path)


@pytest.fixture(scope="session")
def chain(tokenizer, tmp_path_factory):
    """A run from decoder to proof, which no test changes."""
    from helpers.chain import make_chain

    return make_chain(tmp_path_factory.mktemp("chain"), tokenizer)
