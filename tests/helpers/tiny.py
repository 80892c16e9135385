"""Tiny random decoders and a tiny tokenizer, made in memory."""

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from influcoder.data.examples import Example
from influcoder.model.decoder import Decoder

END = "<eos>"
SENTENCES = [
    "The capital of France is Paris, and the capital of Italy is Rome.",
    "What is the capital of Spain? Madrid is the capital of Spain.",
    "Two plus two is four; three plus four is seven.",
    "Hello world, this is a tiny tokenizer for tests.",
]
CHAT_TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}<eos>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
VOCABULARY = 320
FAMILIES = ("llama", "llama-tied", "gpt2", "gpt-neox", "qwen3")
KINDS = (*FAMILIES, "used-twice", "used-in-vain", "in-vain-first")


def tiny_tokenizer(*, chat: bool = False, end: str | None = END) -> PreTrainedTokenizerFast:
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(SENTENCES, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=end)
    if chat:
        tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def tiny_model(
    family: str, *, seed: int = 0, vocabulary: int = VOCABULARY, width: int = 32, layers: int = 2
) -> PreTrainedModel:
    torch.manual_seed(seed)
    common = {"vocab_size": vocabulary, "initializer_range": 0.1, "eos_token_id": 0, "bos_token_id": 0}
    if family == "gpt2":
        config = GPT2Config(n_embd=width, n_layer=layers, n_head=4, n_positions=128, **common)
        return GPT2LMHeadModel(config).eval()
    sizes = {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
    }
    if family == "gpt-neox":
        return GPTNeoXForCausalLM(GPTNeoXConfig(**sizes, **common)).eval()
    if family == "qwen3":
        config = Qwen3Config(**sizes, num_key_value_heads=2, head_dim=8, **common)
        return Qwen3ForCausalLM(config).eval()
    config = LlamaConfig(**sizes, num_key_value_heads=2, tie_word_embeddings=family == "llama-tied", **common)
    return LlamaForCausalLM(config).eval()


class UsedInVain(nn.Module):
    """Uses its layers twice; one use has no part in what it gives."""

    def __init__(self, inner: nn.Module, *, first: bool) -> None:
        super().__init__()
        self.inner = inner
        self.first = first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one, other = self.inner(x), self.inner(2 * x)
        return other if self.first else one


def tiny_kind(kind: str) -> PreTrainedModel:
    """A tiny model of each kind of layer and of use that the gradient engine has to get right."""
    if kind in FAMILIES:
        return tiny_model(kind)
    model = tiny_model("llama")
    if kind == "used-twice":
        model.model.layers[1].mlp = model.model.layers[0].mlp
    else:
        model.model.layers[1].mlp = UsedInVain(model.model.layers[1].mlp, first=kind == "in-vain-first")
    return model


def save_adapter(folder: Path, family: str, *, layers: int = 2, **config: object) -> Path:
    """A LoRA adapter of `tiny_model(family, layers=layers)` whose A and B are both away from zero."""
    model = get_peft_model(tiny_model(family, layers=layers), LoraConfig(fan_in_fan_out=family == "gpt2", **config))
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    return folder


def tiny_decoder(
    family: str, tokenizer: PreTrainedTokenizerFast, *, max_length: int = 96, seed: int = 0, layers: int = 2
) -> Decoder:
    model = tiny_model(family, seed=seed, layers=layers)
    return Decoder(model, tokenizer, name=f"tiny-{family}", max_length=max_length)


def save_decoder(
    folder: Path, tokenizer: PreTrainedTokenizerFast, family: str = "llama", *, seed: int = 0, layers: int = 2
) -> Path:
    tiny_model(family, seed=seed, layers=layers).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def some_examples() -> list[Example]:
    pairs = [
        ("What is the capital of France? ", "Paris"),
        ("What is the capital of Italy? ", "Rome is the capital of Italy."),
        ("", "Hello world, this is a whole text without a prompt."),
        ("Two plus two is ", "four"),
        ("Three plus four, and also a somewhat longer prompt than all the others here, is ", "seven; not eight"),
        ("Hello ", "w"),
    ]
    return [Example(f"e{number}", prompt, completion) for number, (prompt, completion) in enumerate(pairs)]
