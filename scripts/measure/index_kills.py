"""Kill `index` at random moments, fifty times, and resume it: is the index the same to the byte?

    python scripts/measure/index_kills.py --data DIR --encoder runs/scale/encoder-narrow --output-dir runs/kills

An index of --rows documents of DIR's corpora is made once undisturbed. Then runs are started and killed by SIGKILL
after a random time, each going on where the last was stopped; one that gets done is counted, and the next begins
anew. Every finished index, and the last one, is compared with the undisturbed one file by file. After every kill the
folder is opened: it must be refused as unfinished, or be whole. Everything goes to metrics.json.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

os.environ["RAYON_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

from influcoder.benchmarks.corpora.corpora import dolly
from influcoder.data.examples import Example
from influcoder.errors import StoreIncomplete
from influcoder.indexes import build as indexing
from influcoder.indexes.index import Index
from influcoder.store.files import write_json
from influcoder.store.output_folder import claim
from influcoder.student.encoder import InfluenceEncoder

SHARD_ROWS = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "encoder", "output-dir"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    pool, encoder = dolly(arguments.data)[: arguments.rows], InfluenceEncoder.load(arguments.encoder)
    calm, folder = arguments.output_dir / "calm", arguments.output_dir / "killed"
    for place in (calm, folder):
        shutil.rmtree(place, ignore_errors=True)
    began = time.perf_counter()
    assert wait(start(encoder, pool, calm)) == 0
    seconds = time.perf_counter() - began
    expected, moments = contents(calm), random.Random(arguments.seed)
    kills = done = refused = 0
    while kills < arguments.kills:
        child = start(encoder, pool, folder)
        time.sleep(moments.uniform(0, seconds / 4))
        os.kill(child, signal.SIGKILL)
        if wait(child) == -signal.SIGKILL:
            kills += 1
            refused += is_unfinished(folder)
        if (folder / "manifest.json").exists():
            assert wait(start(encoder, pool, folder)) == 0
            done += 1
            compare(contents(folder), expected)
            shutil.rmtree(folder)
        print(f"\r{kills} kills, {done} finished", end="", file=sys.stderr)
    assert wait(start(encoder, pool, folder)) == 0
    compare(contents(folder), expected)
    found = {"kills": kills, "refused_as_unfinished": refused, "finished_and_identical": done + 1, "rows": len(pool)}
    found |= {"undisturbed_seconds": seconds, "seed": arguments.seed, "files": len(expected)}
    write_json(arguments.output_dir / "metrics.json", found)
    print(found)


def start(encoder: InfluenceEncoder, pool: list[Example], folder: Path) -> int:
    """A process of its own, forked from here so that it need not load everything again."""
    child = os.fork()
    if child == 0:
        with claim(folder, resume=True):
            indexing.build(encoder, iter(pool), folder, code="int8", shard_rows=SHARD_ROWS)
            Index(folder).ready()
        os._exit(0)
    return child


def wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def is_unfinished(folder: Path) -> bool:
    """Whether the folder is refused; otherwise it must be whole."""
    if not (folder / "plan.json").exists() and not (folder / "manifest.json").exists():
        return True
    try:
        Index(folder).verify()
    except StoreIncomplete:
        return True
    return False


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def compare(found: dict[str, bytes], expected: dict[str, bytes]) -> None:
    differing = [name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)]
    if differing:
        raise SystemExit(f"not the same: {sorted(differing)}")


if __name__ == "__main__":
    main()
