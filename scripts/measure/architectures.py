"""Every causal language model that transformers has: verified, refused by name, or wrong?

    python scripts/measure/architectures.py

A tiny random model of every type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES is saved, loaded as a user's decoder, and its
features are held against one-by-one autograd of the weights: alone and in padded batches, with a LoRA adapter merged,
in bfloat16. Where a message says which --modules to give, that is done. Each model has a process of its own, and a
time limit. The record, docs/runs/architectures.json, is written after each; what is in it is not done again. At the
end docs/models.md is written from it; `--page` writes it from what is there.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "docs" / "runs" / "architectures.json"
PAGE = ROOT / "docs" / "models.md"
OUTCOMES = ("verified", "verified with --modules", "refused", "wrong", "failed", "not built")


def run(name: str, timeout_s: int) -> dict[str, Any]:
    """What a process of its own, forked from this one, makes of a model type."""
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=one, args=(name, send))
    process.start()
    send.close()
    try:
        found: dict[str, Any] = receive.recv() if receive.poll(timeout_s) else {}
    except EOFError:
        process.join()
        return {"outcome": "failed", "why": f"its process ended with {process.exitcode}"}
    finally:
        process.kill()
        process.join()
    return found or {"outcome": "failed", "why": f"longer than {timeout_s} s"}


def one(name: str, send: Any) -> None:
    from architecture_checks import examine

    with tempfile.TemporaryDirectory() as folder:
        send.send(examine(name, Path(folder)))


def prepare() -> None:
    """Load once what every model needs; the processes are forked afterwards."""
    import logging
    import os
    import warnings

    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    import transformers

    import architecture_checks  # noqa: F401

    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)


def versions() -> dict[str, str]:
    import peft
    import torch
    import transformers

    return {one.__name__: one.__version__ for one in (transformers, torch, peft)}


def page(record: dict[str, Any]) -> str:
    """docs/models.md."""
    models = record["models"]
    counts = Counter(found["outcome"] for found in models.values())
    built = len(models) - counts["not built"]
    right = counts["verified"] + counts["verified with --modules"]
    lines = [
        "# Models",
        "",
        "Which causal language models of transformers does Influcoder compute right gradients for?",
        "`python scripts/measure/architectures.py` builds a tiny random model of every type that",
        "`AutoModelForCausalLM` knows, with every kind of layer that its default config has, and compares its features",
        "with one-by-one autograd of the weights. *Verified* is a relative difference of at most 1e-4 of every example",
        "and of every layer, alone and in padded batches, and of a LoRA adapter's gradients once it is merged; in",
        "float64 (*64*) where float32 rounds more than that. [Cases](cases.md) lists what was reported wrong before.",
        "",
        f"transformers {record['versions']['transformers']}, torch {record['versions']['torch']}, "
        f"peft {record['versions']['peft']}: {len(models)} types, {built} can be built from their config.",
        "",
        "| outcome | types | |",
        "|---|---|---|",
        *(f"| {outcome} | {counts[outcome]} | {MEANING[outcome]} |" for outcome in OUTCOMES),
        "",
        f"{right / built:.1%} of those that can be built are verified, {counts['verified'] / built:.1%} without flags.",
        "",
        "Experts are linear layers like others: one product an expert and matrix. *Layers looked at* is the share of",
        "the parameters, embeddings and output head apart; norms, biases, convolutions and what scales token by token",
        "are no linear layers. *One at a time*: examples cannot be told apart in a batch of this model, so each is run",
        "by itself, which is slower. *bf16* is the smallest cosine of a bfloat16 gradient with the exact one, of a",
        "random model of width 32: trained models are larger and bear more, mixtures choose other experts; the",
        "self-check measures it on yours.",
        "",
        "| type | class | outcome | difference | layers looked at | in a batch | adapter | bf16 |",
        "|---|---|---|---|---|---|---|---|",
        *(_row(name, found) for name, found in models.items() if found["outcome"].startswith(("verified", "wrong"))),
        "",
        "## Refused, with the message",
        "",
        *(_reason(name, found) for name, found in models.items() if found["outcome"] in ("refused", "failed")),
        "",
        "## Not built",
        "",
        *(_reason(name, found) for name, found in models.items() if found["outcome"] == "not built"),
    ]
    return "\n".join(lines).rstrip() + "\n"


MEANING = {
    "verified": "right, without any flag",
    "verified with --modules": "a message names the layers to leave out, and the rest is right",
    "refused": "a message says why",
    "wrong": "a difference above 1e-4 that nothing tells of",
    "failed": "a traceback, or no answer in time",
    "not built": "the config's default cannot be made small, or needs a package that is not there",
}


def _row(name: str, found: dict[str, Any]) -> str:
    modules = f" `--modules {' '.join(repr(word) for word in found['modules'].split())}`" if found["modules"] else ""
    share, adapter, bf16 = found["share"], found["adapter"], found["bf16_cosine"]
    looked = f"{share['all']:.1%}"
    if "in_experts" in share:
        looked += f" (experts hold {share['in_experts']:.0%}, {share['of_experts']:.0%} of them looked at)"
    merged = f"{max(adapter['difference'], adapter['merged_logits']):.0e}" if "difference" in adapter else "refused"
    return (
        f"| {name} | {found['class']} | {found['outcome'].split(' with')[0]}{modules} "
        f"| {max(found['difference'], found['layer_difference'], found['batch_difference']):.0e}"
        f"{' *64*' if found.get('float64') else ''} | {looked} "
        f"| {'yes' if found['batched'] else 'one at a time'} | {'none to adapt' if 'peft' in adapter else merged} "
        f"| {f'{bf16:.3f}' if isinstance(bf16, float) else 'no'} |"
    )


def _reason(name: str, found: dict[str, Any]) -> str:
    return f"- **{name}**: {found['why']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="model types; all when omitted")
    parser.add_argument("--again", action="store_true", help="do again what is in the record")
    parser.add_argument("--timeout", type=int, default=600, help="seconds that a model may take")
    parser.add_argument("--page", action="store_true", help="only write the page")
    arguments = parser.parse_args()
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    if not arguments.page:
        sys.path.insert(0, str(Path(__file__).parent))
        from tiny_models import names

        prepare()
        known = versions()
        models = record.get("models", {}) if record.get("versions") == known else {}
        for name in arguments.names or names():
            if name not in models or arguments.again or arguments.names:
                models[name] = run(name, arguments.timeout)
                print(f"{name}: {models[name]['outcome']}  {models[name].get('why', '')}", file=sys.stderr, flush=True)
            record = {"schema": 1, "versions": known, "models": {key: models[key] for key in names() if key in models}}
            RECORD.write_text(json.dumps(record, indent=1) + "\n")
    PAGE.write_text(page(record))


if __name__ == "__main__":
    main()
