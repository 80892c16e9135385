"""Train the demo decoder: a byte-level BPE tokenizer and a 5.9M-parameter Llama, from nothing.

    python scripts/train_demo_decoder.py --data DIR --text DIR --output-dir runs/decoder-base

--data holds `dolly/` and `benign_chat/`; --text is what collect_training_text.py wrote. The Dolly rows of the
facts (make_facts_world.py), among which are those of the demo's pool, are left out, BBH is never read, and 400 more
Dolly rows are held out for the perplexity. The stream starts with half documentation and prose and
ends with chat only. Muon for the matrices, AdamW for the rest, bf16 autocast, a trapezoidal schedule.

Stopped at any moment, the same command goes on from the last checkpoint. `log.jsonl` holds the loss curve.
"""

import argparse
import gzip
import json
import math
import os
import random
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SEED = 7
CONTEXT = 512
VOCABULARY = 6144
LEFT_OUT = Path(__file__).parent.parent / "src/influcoder/benchmarks/corpora/facts/pool.jsonl.gz"
PERMISSIVE = {"MIT", "Apache-2.0", "CC-BY-4.0"}
CHARACTERS_PER_SOURCE = {"wn": 4_500_000, "gcide": 3_000_000, "foldoc": 1_500_000, "python": 2_000_000}
CHARACTERS_OF_THE_REST = 750_000
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}<|assistant|>"
    "{% generation %}{{ message['content'] + '<|end|>' }}{% endgeneration %}"
    "{% else %}{{ '<|' + message['role'] + '|>' + message['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def read_rows(path: Path) -> list[dict]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def chat_text(prompt: str, response: str) -> str:
    return f"<|user|>{prompt}<|assistant|>{response}<|end|>"


def dolly_prompt(row: dict) -> str:
    return row["instruction"] + ("\n\n" + row["context"] if row["context"] else "")


def load_texts(data: Path, text: Path) -> tuple[list[str], list[str], list[tuple[str, str]]]:
    """(documents, chats, held-out (prompt, response) pairs)."""
    pool = {row["instruction"] + row["context"] + row["response"] for row in read_rows(LEFT_OUT)}
    rng = random.Random(SEED)
    dolly = read_rows(data / "dolly/dolly.jsonl.gz")
    dolly = [r for r in dolly if r["instruction"] + r["context"] + r["response"] not in pool]
    rng.shuffle(dolly)
    held_out = [(dolly_prompt(row), row["response"]) for row in dolly[:400]]
    chats = [chat_text(dolly_prompt(row), row["response"]) for row in dolly[400:]]
    for row in read_rows(data / "benign_chat/benign_chat.jsonl.gz"):
        if row["licence"] in PERMISSIVE:
            chats.append(chat_text(row["prompt"], row["response"]))
    documents = []
    for path in sorted(text.glob("*.txt")):
        pages = path.read_text(encoding="utf-8").split("\n\f\n")
        rng.shuffle(pages)
        left = CHARACTERS_PER_SOURCE.get(path.stem, CHARACTERS_OF_THE_REST)
        for page in pages:
            if left <= 0:
                break
            documents.append(page[:8000] + "<|end|>")
            left -= min(len(page), 8000)
    return documents, chats, held_out


def train_tokenizer(documents: list[str], chats: list[str], destination: Path) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    # With the prefix space a word has one token whether it opens a text or stands inside it.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    sample = chats + random.Random(SEED).sample(documents, len(documents) // 8)
    for special in specials:
        sample = [text.replace(special, "\n") for text in sample]
    tokenizer.train_from_iterator(sample, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>", model_max_length=CONTEXT
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(destination)
    return fast


def token_stream(tokenizer: PreTrainedTokenizerFast, documents: list[str], chats: list[str], epochs: int) -> np.ndarray:
    """One stream: documents in its first 70 %, `epochs` passes over the chats ever denser towards its end."""
    rng = random.Random(SEED)
    placed = [(0.7 * rng.random(), text) for text in documents]
    for _ in range(epochs):
        placed += [(rng.random() ** 0.7, text) for text in chats]
    placed.sort()
    ids = tokenizer([text for _, text in placed], add_special_tokens=False)["input_ids"]
    return np.concatenate([np.asarray(row, dtype=np.uint16) for row in ids])


def new_model() -> LlamaForCausalLM:
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=672,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        # A residual stream of size 1 from the start: with the usual .02 the first layer's gradient is nine
        # tenths of the whole (docs/log.md, 2026-11-25).
        model.model.embed_tokens.weight.normal_(std=1.0)
        model.model.norm.weight.fill_(config.hidden_size**-0.5)
        for layer in model.model.layers:
            for output in (layer.self_attn.o_proj, layer.mlp.down_proj):
                output.weight.div_(math.sqrt(2 * config.num_hidden_layers))
    return model


def learning_rate(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / 40) * min(1.0, (steps - step) / (0.55 * steps))


@torch.no_grad()
def perplexity(model, tokenizer, pairs: list[tuple[str, str]]) -> float:
    """exp of the mean cross-entropy a completion token."""
    model.eval()
    total, tokens = 0.0, 0
    for prompt, response in pairs:
        head = tokenizer(f"<|user|>{prompt}<|assistant|>", add_special_tokens=False)["input_ids"]
        tail = tokenizer(f"{response}<|end|>", add_special_tokens=False)["input_ids"][: CONTEXT // 2]
        head = head[-(CONTEXT - len(tail)) :]
        ids = torch.tensor([head + tail])
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(input_ids=ids).logits[0, len(head) - 1 : -1]
        total += torch.nn.functional.cross_entropy(logits.float(), ids[0, len(head) :], reduction="sum").item()
        tokens += len(tail)
    model.train()
    return math.exp(total / tokens)


def optimizers_for(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    embeddings = [p for name, p in model.named_parameters() if "embed" in name]
    gains = [p for name, p in model.named_parameters() if p.ndim != 2]
    return [
        torch.optim.Muon(matrices, lr=5e-3, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        # The embeddings start at deviation 1, so that they need larger steps than the gains.
        torch.optim.AdamW(
            [{"params": embeddings, "lr": 3e-2}, {"params": gains, "lr": 5e-3}], betas=(0.9, 0.95), weight_decay=0.0
        ),
    ]


def save_checkpoint(folder: Path, step: int, model, optimizers) -> None:
    tensors = {f"model.{name}": value for name, value in model.named_parameters()}
    for number, optimizer in enumerate(optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{index}.{key}": value for key, value in state.items()}
    tensors["step"] = torch.tensor(step)
    temporary = folder / "checkpoint.tmp"
    save_file({name: value.detach().contiguous().clone() for name, value in tensors.items()}, temporary)
    os.replace(temporary, folder / "checkpoint.safetensors")


def load_checkpoint(folder: Path, model, optimizers) -> int:
    path = folder / "checkpoint.safetensors"
    if not path.exists():
        return 0
    tensors = load_file(path)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model.{name}"])
    for number, optimizer in enumerate(optimizers):
        whole = optimizer.state_dict()
        for name, value in tensors.items():
            if name.startswith(f"optimizer.{number}."):
                _, _, index, key = name.split(".", 3)
                whole["state"].setdefault(int(index), {})[key] = value
        optimizer.load_state_dict(whole)
    return int(tensors["step"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--chat-epochs", type=int, default=2)
    parser.add_argument("--sequences", type=int, default=16, help="sequences of 512 tokens a step")
    parser.add_argument("--max-steps", type=int, default=0, help="stop early (for timing); 0: the whole stream")
    arguments = parser.parse_args()
    folder = arguments.output_dir
    folder.mkdir(parents=True, exist_ok=True)

    documents, chats, held_out = load_texts(arguments.data, arguments.text)
    tokenizer = train_tokenizer(documents, chats, folder)
    stream = token_stream(tokenizer, documents, chats, arguments.chat_epochs)
    per_step = arguments.sequences * CONTEXT
    steps = len(stream) // per_step
    model = new_model().train()
    optimizers = optimizers_for(model)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters:,} parameters, {len(stream):,} tokens, {steps} steps of {per_step}", flush=True)

    first = load_checkpoint(folder, model, optimizers)
    began = time.time()
    for step in range(first, arguments.max_steps or steps):
        batch = stream[step * per_step : (step + 1) * per_step].astype(np.int64)
        ids = torch.from_numpy(batch).view(arguments.sequences, CONTEXT)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group.setdefault("first_lr", group["lr"]) * learning_rate(step, steps)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if step % 20 == 0 or step == steps - 1:
            record = {"step": step, "loss": round(loss.item(), 4), "seconds": round(time.time() - began)}
            if step % 100 == 0 or step == steps - 1:
                record["held_out_perplexity"] = round(perplexity(model, tokenizer, held_out[:100]), 2)
                save_checkpoint(folder, step + 1, model, optimizers)
            print(json.dumps(record), flush=True)
            with open(folder / "log.jsonl", "a") as log:
                log.write(json.dumps(record) + "\n")
    print("held-out Dolly perplexity, 400 rows:", round(perplexity(model, tokenizer, held_out), 3))
    model.to(torch.bfloat16).save_pretrained(folder)


if __name__ == "__main__":
    main()
