"""How fast are per-example gradients, here and elsewhere? Agreement first, then speed.

    python scripts/measure/gradients.py --output-dir runs/speed --workload llama-30m

Every contender computes the gradients of the same B matrices of the same fresh LoRA adapter (every linear layer
but the head, alpha = 2 · rank), on the same token ids, in a process of its own:

    loop, loop-bf16              PEFT and autograd, one example at a time
    vmap                         torch.func, vmap(grad)
    bergson, bergson-bf16        bergson 2.5.1, its collector without projection; bf16 weights
    dattri                       dattri 0.3.0, its block-projected attributor with identity compressors
    influcoder, influcoder-bf16  this project; bf16 autocast

First each contender's matrix of cosines between examples is compared with the float32 loop's: what does not
agree computes something else and is not timed. In the same process those that take batches choose the number of
padded tokens that suits them best. Then fresh processes take turns, a pass each a round, in an order that
rotates. A pass yields every gradient and keeps none beyond its batch; loading is outside of it, and the first
pass of all is a warm-up that is not counted. The peers live in an environment of their own, made when missing.

Progress goes to stderr, a Markdown table to stdout, everything to metrics.json.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from contenders.environment import install
from contenders.process import Failed
from contenders.race import ALPHA_PER_RANK, ENTRIES, REFERENCE, Race, say
from contenders.workloads import NAMES, write_workload


def table(results: dict[str, dict[str, Any]]) -> str:
    """The results as Markdown."""
    lines = [
        "| contender | precision | cosines differ by | examples/s | tokens/s | tokens a batch | peak MB "
        "| x loop | x bergson |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, one in results.items():
        differ = one.get("agreement_max_abs")
        start = f"| {name} | {one['precision']} | {'' if differ is None else f'{differ:.1e}'} |"
        if "error" in one:
            lines.append(f"{start} {one['error']} | | | | | |")
            continue
        lines.append(
            f"{start} {one['examples_per_second']:.1f} | {one['tokens_per_second']:,.0f} "
            f"| {one['token_budget'] or 'one example'} | {one['peak_device_memory_mb'] or one['peak_memory_mb']:,.0f} "
            f"| {_ratio(one, 'loop')} | {_ratio(one, 'bergson')} |"
        )
    return "\n".join(lines)


def _ratio(one: dict[str, Any], rival: str) -> str:
    if one[f"ratio_to_{rival}"] is None:
        return ""
    low, high = one[f"ratio_to_{rival}_interval"]
    return f"{one[f'ratio_to_{rival}']:.2f} [{low:.2f}, {high:.2f}]"


def machine(device: str) -> str:
    """The machine in words."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text().split()) if info.exists() else set()
    bf16 = flags & {"avx512_bf16", "amx_bf16", "bf16"}
    words = f"{cores} CPU cores, {'with' if bf16 else 'without'} bf16 instructions"
    return f"{torch.cuda.get_device_name(device)}, {words}" if torch.device(device).type == "cuda" else words


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--workload", choices=NAMES, default="demo")
    parser.add_argument("--data", type=Path, help="rows to draw examples from instead of the demo's Dolly rows")
    parser.add_argument("--examples", type=int, default=128)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--contenders", nargs="+", choices=ENTRIES, default=list(ENTRIES))
    parser.add_argument("--token-budgets", type=int, nargs="+", help="padded tokens a batch to choose from")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--peers-env", type=Path, default=Path("runs/peers-env"))
    parser.add_argument("--quick", action="store_true", help="a tiny model, few short examples, no peers")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.workload, arguments.examples, arguments.max_length, arguments.repeats = "tiny", 8, 96, 1
        arguments.contenders = [REFERENCE, "influcoder"]
    if arguments.token_budgets is None:
        arguments.token_budgets = [4096, 16384, 65536] if arguments.device.startswith("cuda") else [1024, 4096]
    arguments.contenders = [name for name in ENTRIES if name in {REFERENCE, *arguments.contenders}]
    return arguments


def main() -> None:
    arguments = parse()
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        say(f"writing the workload {arguments.workload}")
        workload = write_workload(
            arguments.workload,
            Path(folder),
            rows=arguments.data,
            count=arguments.examples,
            max_length=arguments.max_length,
            rank=arguments.rank,
            scale=ALPHA_PER_RANK,
            seed=arguments.seed,
        )
        race = Race(arguments, workload, Path(folder))
        peers = {peer for name in arguments.contenders if (peer := ENTRIES[name].peer)}
        missing = install(arguments.peers_env, peers, say) if peers else {}
        for name in arguments.contenders:
            try:
                if (peer := ENTRIES[name].peer) in missing:
                    raise Failed(f"not installed: {missing[peer]}")
                race.check(name)
            except Failed as failure:
                if name == REFERENCE:
                    raise
                race.fail(name, str(failure))
        race.run([name for name in arguments.contenders if "error" not in race.results[name]])
        results = race.conclude()
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(arguments).items()}
    metrics = {
        "schema": 1,
        "contenders": results,
        "config": settings
        | {
            "parameters": workload.parameters,
            "gradient_numbers": workload.gradient,
            "examples": len(workload.lengths),
            "tokens": sum(workload.lengths),
            "longest": max(workload.lengths),
        },
        "versions": race.versions,
        "machine": machine(arguments.device),
        "seed": arguments.seed,
    }
    (arguments.output_dir / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    print(
        f"{arguments.workload}, {workload.parameters / 1e6:.1f}M parameters, {len(workload.lengths)} examples of "
        f"{sum(workload.lengths) / len(workload.lengths):.0f} tokens, {arguments.threads} threads; "
        f"{metrics['machine']}\n\n{table(results)}"
    )


if __name__ == "__main__":
    main()
