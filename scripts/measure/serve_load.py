"""How the service bears load: many searches at once over an index of N rows, for a while.

    python scripts/measure/serve_load.py --output-dir runs/serve-load [--rows 1000000] [--minutes 2]
    python scripts/measure/serve_load.py --output-dir runs/serve-load --minutes 60 --clients 2 --pause 1

The index is made here: its encoder, of 64 spectral numbers, is distilled from sentences of a few words, its vectors
are those of some thousand such sentences, drawn again with noise, and every row has texts and metadata of its own, so
files and scan are those of a real pool of that size. `influcoder serve` runs in a process of its own. First one client
asks after the other, then CLIENTS at once, each a new question PAUSE seconds after its last is answered, with pages of
rows, filtered searches, scores and whole pages among them. Memory of the service is sampled every second, all of it and
its own without the files that are mapped into it; it is flat if its slope is small against its size. Figures go to
metrics.json.
"""

import argparse
import asyncio
import json
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psutil

from influcoder.data.examples import Example
from influcoder.demo.world import assets
from influcoder.indexes.build import build
from influcoder.indexes.index import Index
from influcoder.model.decoder import Decoder
from influcoder.store.files import write_json
from influcoder.store.output_folder import Folder
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.features_folder import FeaturesFolder
from influcoder.teachers.settings import TeacherSettings
from influcoder.verbs.distill import distill
from influcoder.verbs.features import features
from scale import without_channels

CLIENTS, PROTOTYPES, NOISE = 100, 4096, 0.2
WORDS = (
    *("capital", "city", "river", "king", "war", "song", "poem", "number"),
    *("prime", "sugar", "bread", "engine", "planet", "doctor", "letter", "island"),
)
NAMES = (
    *("France", "Italy", "Spain", "Ada", "Byron", "Paris", "Rome", "Madrid"),
    *("Mars", "Venus", "Berlin", "Lisbon", "Oslo", "Athens", "Cairo", "Lima"),
)
MIX = {"search": 82, "rows": 10, "filtered": 3, "page": 3, "score": 2}
"""requests of each kind, of a hundred"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument(
        "--pause", type=float, default=0, help="seconds between an answer and the client's next request"
    )
    arguments = parser.parse_args()
    folder: Path = arguments.output_dir
    folder.mkdir(parents=True, exist_ok=True)
    index = folder / f"index-{arguments.rows}"
    if not (index / "manifest.json").exists():
        began = time.perf_counter()
        make_index(folder, index, arguments.rows)
        print(f"index made in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    found = asyncio.run(measure(index, arguments.clients, 60 * arguments.minutes, arguments.pause))
    found |= {"rows": arguments.rows, "dim": Index(index).dim, "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    write_json(folder / "metrics.json", found)
    print(json.dumps(found, indent=2))


def sentence(rng: random.Random, words: int) -> str:
    return " ".join(rng.choice(WORDS if number % 2 else NAMES) for number in range(words))


def make_index(folder: Path, index: Path, rows: int) -> None:
    """An index of `rows` rows whose vectors are drawn around those of real sentences."""
    rng = random.Random(0)
    if not (folder / "encoder" / "influcoder.json").exists():
        decoder = Decoder.load(assets() / "decoder", max_length=64)
        sides = [
            [Example(f"{name}{n}", sentence(rng, 6) + "? ", sentence(rng, 4)) for n in range(count)]
            for name, count in (("q", 60), ("p", 200))
        ]
        features(decoder, *sides, Folder(folder / "features"), TeacherSettings())
        distill(FeaturesFolder(folder / "features"), Folder(folder / "encoder"))
    whole = InfluenceEncoder.load(folder / "encoder")
    encoder = InfluenceEncoder.load(without_channels(whole, folder / "encoder-narrow"))
    real = [Example(str(n), sentence(rng, 6) + "? ", sentence(rng, 4)) for n in range(PROTOTYPES)]
    vectors = encoder.encode_pool(real)
    spread, draw = NOISE * vectors.std(axis=0), np.random.default_rng(0)

    def drawn(examples: list[Example]) -> np.ndarray:
        chosen = vectors[draw.integers(PROTOTYPES, size=len(examples))]
        return (chosen + draw.normal(size=chosen.shape) * spread).astype(np.float32)

    encoder.encode_pool = drawn  # type: ignore[method-assign,assignment]
    pool = (
        Example(
            f"row-{n}",
            f"{real[n % PROTOTYPES].prompt}{n}",
            f"{real[n * 7 % PROTOTYPES].completion} {sentence(rng, 24)}",
            metadata={"genre": WORDS[n % 16], "tokens": n % 400},
        )
        for n in range(rows)
    )
    build(encoder, pool, index, code="int8")


async def measure(index: Path, clients: int, seconds: float, pause: float) -> dict[str, Any]:
    """Latencies of each kind of request, one by one and at once, and the service's memory."""
    command = [sys.executable, "-m", "influcoder", "serve", "--index", str(index), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = re.search(r"http://\S+", process.stdout.readline())[0]  # type: ignore[index]
        limits = httpx2.Limits(max_connections=clients, max_keepalive_connections=clients)
        async with httpx2.AsyncClient(base_url=url, timeout=120, limits=limits, trust_env=False) as http:
            while (await http.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.2)
            service = psutil.Process(process.pid)
            alone: dict[str, list[float]] = {kind: [] for kind in MIX}
            errors: Counter[str] = Counter()
            for kind in MIX:
                for _ in range(8):
                    await ask(http, kind, alone, errors)
            together: dict[str, list[float]] = {kind: [] for kind in MIX}
            memory: list[tuple[float, float, float]] = []
            end = time.monotonic() + seconds
            worked = sum(service.cpu_times()[:2])

            async def client() -> None:
                while time.monotonic() < end:
                    await ask(http, random.choices(list(MIX), list(MIX.values()))[0], together, errors)
                    await asyncio.sleep(pause)

            async def sample() -> None:
                while time.monotonic() < end:
                    used = service.memory_info()
                    memory.append((time.monotonic(), used.rss / 2**20, (used.rss - used.shared) / 2**20))
                    await asyncio.sleep(1)

            await asyncio.gather(sample(), *(client() for _ in range(clients)))
            worked = sum(service.cpu_times()[:2]) - worked
    finally:
        process.terminate()
        process.wait(60)
    times, sizes, own = np.array(memory).T
    half = len(times) // 2
    return {
        "clients": clients,
        "seconds": seconds,
        "errors": dict(errors),
        "answered": sum(map(len, together.values())),
        "answered_a_second": sum(map(len, together.values())) / seconds,
        "cpu_ms_an_answer": 1000 * worked / max(1, sum(map(len, together.values()))),
        "alone_ms": {kind: quantiles(values[1:]) for kind, values in alone.items()},
        "together_ms": {kind: quantiles(values) for kind, values in together.items()},
        "memory_mb": {"first": sizes[0], "most": sizes.max(), "last": sizes[-1]},
        "own_memory_mb": {"first": own[0], "most": own.max(), "last": own[-1]},
        "own_memory_mb_a_minute_in_second_half": float(np.polyfit((times[half:] - times[half]) / 60, own[half:], 1)[0]),
        "own_memory_mb_each_minute": [round(float(one)) for one in own[::60]],
    }


async def ask(http: httpx2.AsyncClient, kind: str, times: dict[str, list[float]], errors: Counter[str]) -> None:
    """One request, and how long its answer took in milliseconds."""
    rng = random.Random()
    question: dict[str, Any] = {"prompt": sentence(rng, 6) + "?", "completion": sentence(rng, 4), "k": 10}
    began = time.perf_counter()
    try:
        if kind == "rows":
            answer = await http.get("/api/v1/rows", params={"offset": rng.randrange(100_000), "limit": 50})
        elif kind == "filtered":
            answer = await http.post("/api/v1/search", json=question | {"where": f"genre={rng.choice(WORDS)}"})
        elif kind == "score":
            asked = {name: question[name] for name in ("prompt", "completion")}
            answer = await http.post("/api/v1/score", json=asked | {"order": "highest", "limit": 10})
        elif kind == "page":
            answer = await http.get("/", params={name: question[name] for name in ("prompt", "completion")})
        else:
            answer = await http.post("/api/v1/search", json=question)
    except httpx2.HTTPError as error:
        errors[type(error).__name__] += 1
        return
    if answer.status_code != 200:
        errors[str(answer.status_code)] += 1
        return
    times[kind].append(1000 * (time.perf_counter() - began))


def quantiles(values: list[float]) -> dict[str, float] | None:
    """The median, the 99th percentile and the longest."""
    if not values:
        return None
    p50, p99 = np.quantile(values, [0.5, 0.99])
    return {"p50": round(float(p50), 1), "p99": round(float(p99), 1), "most": round(max(values), 1), "n": len(values)}


if __name__ == "__main__":
    main()
