"""What is measured: a decoder and some examples, written to files that every contender reads."""

import json
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from influcoder.data.reading import read_examples
from influcoder.model.decoder import Decoder
from influcoder.model.layers import lora_b

PACKAGE = Path(__file__).parents[3] / "src/influcoder"
DECODER, ROWS = PACKAGE / "demo/decoder", PACKAGE / "benchmarks/corpora/facts/pool.jsonl.gz"
SHAPES = {
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 6144,
    },
    "llama-30m": {
        "hidden_size": 512,
        "intermediate_size": 1536,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "vocab_size": 6144,
    },
    "llama-135m": {  # SmolLM2-135M's
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
    },
    "llama-1.7b": {  # SmolLM2-1.7B's
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 24,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "vocab_size": 49152,
    },
}
NAMES = ("demo", *SHAPES)


@dataclass(frozen=True)
class Workload:
    """The files of a workload, and its size."""

    model: Path
    examples: Path
    matrices: Path
    parameters: int
    lengths: list[int]
    gradient: int
    """numbers in one example's gradient"""


def write_workload(
    name: str, folder: Path, *, rows: Path | None, count: int, max_length: int, rank: int, scale: float, seed: int
) -> Workload:
    """Save the model, the token ids of `count` drawn rows, and the adapter's A matrices.

    Rows are the demo pool's of Dolly, or those of a file.
    """
    model = folder / "model"
    tokenizer = AutoTokenizer.from_pretrained(DECODER)
    if name == "demo":
        Decoder.load(DECODER, dtype="fp32", device="cpu").model.save_pretrained(model)
    else:
        torch.manual_seed(seed)
        config = LlamaConfig(
            **SHAPES[name], max_position_embeddings=512, tie_word_embeddings=True, eos_token_id=0, bos_token_id=None
        )
        LlamaForCausalLM(config).save_pretrained(model)
    tokenizer.save_pretrained(model)

    decoder = Decoder.load(model, max_length=max_length, dtype="fp32", device="cpu")
    pool = read_examples(rows or ROWS)
    if rows is None:
        pool = [example for example in pool if example.metadata["kind"] == "dolly"]
    drawn = decoder.tokenise(random.Random(seed).sample(pool, min(count, len(pool))))
    drawn = [one for one in drawn if one.targets > 0]
    examples = folder / "examples.json"
    examples.write_text(
        json.dumps({"ids": [one.ids.tolist() for one in drawn], "starts": [max(one.start, 1) for one in drawn]})
    )

    views = lora_b(decoder, rank=rank, seed=seed, alpha=scale * rank)
    matrices = folder / "matrices.safetensors"
    save_file({view.name: view.right.contiguous() for view in views if view.right is not None}, matrices)
    return Workload(
        model=model,
        examples=examples,
        matrices=matrices,
        parameters=sum(parameter.numel() for parameter in decoder.model.parameters()),
        lengths=[len(one.ids) for one in drawn],
        gradient=sum(view.length for view in views),
    )
