import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "steady", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")


def pytest_configure(config):
    # PEFT reads a property that transformers has renamed.
    config.addinivalue_line("filterwarnings", "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture(scope="session")
def tokenizer():
    from tiny import tiny_tokenizer

    return tiny_tokenizer()


@pytest.fixture(scope="session")
def chat_tokenizer():
    from tiny import tiny_tokenizer

    return tiny_tokenizer(chat=True)


@pytest.fixture
def decoder(tokenizer):
    from tiny import tiny_decoder

    return tiny_decoder("llama", tokenizer)


@pytest.fixture
def chat_decoder(chat_tokenizer):
    from tiny import tiny_decoder

    return tiny_decoder("llama", chat_tokenizer)
