"""Kill `features` with SIGKILL at random moments, resume it, and compare every byte.

    python scripts/measure/kills.py --output-dir runs/kills [--kills 50] [--workers N]

It is run once undisturbed, then killed as often as was asked for. A killed run is resumed, and killed again, until
one gets to its end before its moment comes; what it leaves is compared with the undisturbed run, file by file, and the
next begins from nothing. After every kill, what is there is opened: a store is whole, or refused as unfinished.
index_kills.py does the same to `index`.
"""

import argparse
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import orjson
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from influcoder import cli
from influcoder.data.row_files import read_rows
from influcoder.demo.world import assets
from influcoder.errors import StoreError
from influcoder.store.files import write_json
from influcoder.store.store import Store
from influcoder.verbs import features as feature_verbs

ROWS = 700
_LOADED = (feature_verbs,)
"""imported here, and so not once more in every process"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = arguments.output_dir
    folder.mkdir(parents=True)
    prepare(folder)
    moments, words = random.Random(arguments.seed), command(folder, arguments.workers)
    found = killed(folder, words, arguments.kills, moments)
    print(orjson.dumps(found).decode(), flush=True)
    write_json(folder / "metrics.json", {"seed": arguments.seed, "workers": arguments.workers, "features": found})
    if not found["byte_identical"]:
        sys.exit(1)


def prepare(folder: Path) -> None:
    """A tiny random decoder with the demo's tokenizer, and the demo's texts."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(assets() / "decoder")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), initializer_range=0.1, **sizes))
    model.save_pretrained(folder / "decoder")
    tokenizer.save_pretrained(folder / "decoder")
    for name, count in (("queries", 60), ("pool", ROWS)):
        rows = read_rows(assets() / "data" / f"{name}.jsonl.gz")[:count]
        (folder / f"{name}.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))


def command(folder: Path, workers: int | None) -> list[str]:
    """The words of a run, but for its output folder."""
    decoder, queries, pool = (str(folder / name) for name in ("decoder", "queries.jsonl", "pool.jsonl"))
    words = ["features", "--decoder", decoder, "--queries", queries, "--pool", pool, "--precision", "fp32"]
    return [*words, "--rank", "4", "--width", "1024", *(["--workers", str(workers)] if workers else [])]


def killed(folder: Path, words: list[str], kills: int, moments: random.Random) -> dict[str, object]:
    """What comes of that many kills."""
    calm, harmed, errors = folder / "calm", folder / "killed", folder / "errors"
    begin = time.monotonic()
    run([*words, "--output-dir", str(calm)], errors)
    whole_s = time.monotonic() - begin
    expected = contents(calm)
    dead, ends, refused, differing = 0, 0, 0, []
    while dead < kills or harmed.exists():
        process = start([*words, "--output-dir", str(harmed), "--resume"], errors)
        begun = time.monotonic()
        if dead < kills:
            while not harmed.exists() and process.is_alive():  # nothing can be lost before it is there
                time.sleep(0.001)
            process.join(moments.uniform(0, max(0.5, whole_s - (time.monotonic() - begun))))
            process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            dead += 1
            refused += unfinished(harmed)
            print(f"{dead} kills, {ends} runs to the end", file=sys.stderr)
            continue
        if process.exitcode:
            raise SystemExit(f"features could not be resumed: {errors.read_text()}")
        ends += 1
        found = contents(harmed)
        differing += [name for name in sorted(found.keys() | expected.keys()) if found.get(name) != expected.get(name)]
        shutil.rmtree(harmed)
    return {
        "kills": dead,
        "runs_to_the_end": ends,
        "files": len(expected),
        "bytes": sum(map(len, expected.values())),
        "unfinished_and_refused": refused,
        "differing_files": sorted(set(differing)),
        "byte_identical": not differing,
        "undisturbed_s": round(whole_s, 1),
    }


def unfinished(folder: Path) -> int:
    """How many of a folder's stores are refused as unfinished; the others are read whole, every hash checked."""
    count = 0
    for plan in (folder / "queries", folder / "pool"):
        try:
            Store(plan).vectors()
        except StoreError:
            count += (plan / "plan.json").exists()
    return count


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the one that names the folder."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "config.toml"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def start(words: list[str], errors: Path) -> "multiprocessing.process.BaseProcess":
    """A process that runs the command line; forked, so that it need not import everything first."""
    process = multiprocessing.get_context("fork").Process(target=influcoder, args=(words, errors))
    process.start()
    return process


def influcoder(words: list[str], errors: Path) -> None:
    with open(errors, "wb") as sink:
        for stream in (1, 2):
            os.dup2(sink.fileno(), stream)
    sys.argv = ["influcoder", *words]
    cli.main()


def run(words: list[str], errors: Path) -> None:
    process = start(words, errors)
    process.join()
    if process.exitcode:
        raise SystemExit(f"influcoder {' '.join(words)}: {errors.read_text()}")


if __name__ == "__main__":
    main()
