"""A million documents on two cores: time, memory, exact search, IVF-PQ, and the exact teacher for the same job.

    python scripts/measure/scale.py --data DIR --output-dir runs/scale

DIR holds the corpora of the fidelity benchmark. Documents of real length are made of their rows: the prompt of one,
the sentences of others' responses, as many as a row drawn at random is long; seeded, streamed to Parquet. A static
encoder is distilled from the demo decoder here and now; its 64 spectral numbers are indexed (`narrow`), and beside
them at the smallest size its identity channels too (`whole`). Each index is made by `influcoder index --shard I/N`
in as many processes as there are cores; time is that of the slowest, from its start, imports included, and memory
the largest sum over all processes at once, sampled five times a second: what they share, as the code of libraries, is
counted once. The more shards, the likelier that the peaks of two processes meet, so the peak of one stands beside it;
so do processor seconds, for a machine that does other work as well.

The exact teacher is timed on a few hundred of the same documents and extrapolated, and the result says so. Exact
search reads 10M x 64 random int8 codes mapped from files; the floor beside it is the time in which the same threads
add up the same bytes. Figures of both go to scale.svg, everything to metrics.json.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from influcoder.benchmarks.corpora.corpora import benign_chat, dolly
from influcoder.data.examples import Example
from influcoder.demo.world import assets
from influcoder.indexes.build import measure_codes
from influcoder.indexes.index import Index
from influcoder.model.decoder import Decoder
from influcoder.provenance import Provenance
from influcoder.store.files import write_json
from influcoder.store.output_folder import Folder
from influcoder.store.scalar_code import ScalarCode
from influcoder.store.writer import StoreWriter
from influcoder.student.decoder_tables import backbone_of, expected_embeddings
from influcoder.student.distill import distill_static
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.features_folder import FeaturesFolder
from influcoder.teachers.gradient import GradientTeacher
from influcoder.teachers.settings import TeacherSettings
from influcoder.teachers.write import write_features
from influcoder.verbs import index as index_verbs

QUERIES, POOL, PROBE, ASKED = 300, 900, 256, 64
MAX_LENGTH = 512
SCANNED, WIDTH, SHARD_ROWS, ROUNDS = 10_000_000, 64, 32768, 9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "output-dir"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--scanned", type=int, default=SCANNED)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder: Path = arguments.output_dir
    folder.mkdir(parents=True, exist_ok=True)
    rows = [*dolly(arguments.data), *benign_chat(arguments.data)]
    found: dict[str, Any] = {"cores": arguments.processes, "seed": arguments.seed, "load": load(), "indexes": {}}
    whole = encoder(rows, folder / "encoder", arguments.seed)
    narrow = without_channels(whole, folder / "encoder-narrow")
    for count in arguments.rows:
        pool = folder / f"pool-{count}.parquet"
        if not pool.exists():
            found["characters"] = write_documents(rows, pool, count, arguments.seed)
        found["indexes"][f"narrow {count}"] = indexed(narrow, pool, folder / f"narrow-{count}", arguments.processes)
        say(found)
    count, pool = min(arguments.rows), folder / f"pool-{min(arguments.rows)}.parquet"
    found["indexes"][f"whole {count}"] = indexed(
        folder / "encoder", pool, folder / f"whole-{count}", arguments.processes
    )
    torch.set_num_threads(arguments.processes)
    largest = Index(folder / f"narrow-{max(arguments.rows)}")
    found["teacher"] = teacher(largest, arguments.seed)
    speed = max(arguments.rows) / found["indexes"][f"narrow {max(arguments.rows)}"]["seconds"]
    found["times_faster_than_teacher_extrapolated"] = speed / found["teacher"]["examples_per_second"]
    say(found)
    found["scan"] = scan(folder / "scanned", arguments.scanned, arguments.processes, arguments.seed)
    say(found)
    found["search"] = search(largest, folder / "scores")
    write_json(folder / "metrics.json", found)
    (folder / "scale.svg").write_text(figure(found), encoding="utf-8")
    print(json.dumps(found, indent=2))


def say(found: dict[str, Any]) -> None:
    print(json.dumps(found), file=sys.stderr, flush=True)


def encoder(rows: list[Example], folder: Path, seed: int) -> InfluenceEncoder:
    """The static student of the demo decoder, taught by some of the rows."""
    if (folder / "influcoder.json").exists():
        return InfluenceEncoder.load(folder)
    decoder = Decoder.load(assets() / "decoder", max_length=MAX_LENGTH)
    taught = GradientTeacher(decoder, TeacherSettings(seed=seed))
    order = np.random.default_rng(seed).permutation(len(rows))
    features = folder.with_name("features")
    for side, role, chosen in (
        ("queries", "query", order[:QUERIES]),
        ("pool", "pool", order[QUERIES : QUERIES + POOL]),
    ):
        write_features(taught, [rows[row] for row in chosen], role, features / side)  # type: ignore[arg-type]
    train, validation = FeaturesFolder(features).split(seed)
    made = distill_static(backbone_of(decoder), train, validation, expected=expected_embeddings(decoder))
    made.save(folder)
    return InfluenceEncoder.load(folder)


def without_channels(whole: InfluenceEncoder, folder: Path) -> Path:
    """The same student with its spectral numbers alone."""
    head = replace(whole.head, channel_weights=np.zeros_like(whole.head.channel_weights))  # type: ignore[union-attr,type-var]
    made = InfluenceEncoder(whole.backbone, head, settings=whole.settings, expected=whole.expected)
    made.save(folder)
    return folder


def write_documents(rows: list[Example], path: Path, count: int, seed: int) -> dict[str, float]:
    """`count` documents as Parquet: characters of one on average, and the deciles."""
    sentences = [part for row in rows for part in row.completion.replace("\n", " ").split(". ") if part]
    sizes = np.array([len(row.completion) for row in rows])
    rng, lengths = np.random.default_rng((seed, count)), []

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, count, 10_000):
            size = min(10_000, count - start)
            prompts, targets = rng.integers(len(rows), size=size), sizes[rng.integers(len(rows), size=size)]
            completions = [document(sentences, int(target), rng) for target in targets]
            asked = [rows[row].prompt for row in prompts]
            lengths.extend(len(a) + len(b) for a, b in zip(asked, completions, strict=True))
            genres = [str(rows[row].metadata.get("genre", "dolly")) for row in prompts]
            ids = [f"doc-{row}" for row in range(start, start + size)]
            columns = {"id": ids, "question": asked, "answer": completions, "genre": genres}
            yield pa.RecordBatch.from_pydict(columns | {"characters": lengths[-size:]})

    first = None
    for batch in batches():
        first = first or pq.ParquetWriter(path, batch.schema)
        first.write_batch(batch)
    if first is not None:
        first.close()
    return {"mean": float(np.mean(lengths)), "deciles": [float(x) for x in np.quantile(lengths, [0.1, 0.5, 0.9])]}


def document(sentences: list[str], target: int, rng: np.random.Generator) -> str:
    """Sentences from anywhere, about `target` characters of them."""
    parts, size = [], 0
    while size < target or not parts:
        parts.append(sentences[int(rng.integers(len(sentences)))])
        size += len(parts[-1]) + 2
    return ". ".join(parts) + "."


def indexed(student: Path, pool: Path, folder: Path, processes: int) -> dict[str, Any]:
    """Seconds and peak memory of `influcoder index` in so many processes of one thread each."""
    words = [sys.executable, "-m", "influcoder", "index", "--encoder", student, "--pool", pool, "--output-dir", folder]
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    shutil.rmtree(folder, ignore_errors=True)  # one that is there would be resumed, in no time
    began, peak, most, used = time.perf_counter(), 0, 0, resource.getrusage(resource.RUSAGE_CHILDREN)
    running = [
        subprocess.Popen(
            [*map(str, words), "--code", "int8", "--shard", f"{turn + 1}/{processes}"],
            env=os.environ | one_thread,
            stdout=subprocess.DEVNULL,
        )
        for turn in range(processes)
    ]
    while any(one.poll() is None for one in running):
        each = [resident(one.pid) for one in running]
        peak, most = max(peak, sum(each)), max(most, *each)
        time.sleep(0.2)
    seconds = time.perf_counter() - began
    if any(one.returncode for one in running):
        raise SystemExit(f"index failed: {[one.returncode for one in running]}")
    after, index = resource.getrusage(resource.RUSAGE_CHILDREN), Index(folder)
    return {
        "rows": len(index),
        "dim": index.dim,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime, 2),
        "rows_per_second": len(index) / seconds,
        "peak_memory_mb": peak / 1e6,
        "peak_memory_of_one_process_mb": most / 1e6,
        "vector_bytes": sum(shard["vectors_bytes"] for shard in index.shards),
        "column_bytes": sum(shard["columns_bytes"] for shard in index.shards),
    }


def load() -> float:
    """Processes that wait for a core, on average over a minute: what the times below were measured beside."""
    return os.getloadavg()[0]


def resident(process: int) -> int:
    """Bytes of memory that a process takes, its part of what it shares with others; 0 of one that is gone."""
    try:
        return int(psutil.Process(process).memory_full_info().pss)
    except psutil.Error:
        return 0


def teacher(index: Index, seed: int) -> dict[str, Any]:
    """The exact teacher's speed on a few of the same documents, on all cores."""
    taught = GradientTeacher(Decoder.load(assets() / "decoder", max_length=MAX_LENGTH), TeacherSettings(seed=seed))
    probe = [index.example(int(row)) for row in np.linspace(0, len(index) - 1, 2 * PROBE).astype(int)]
    taught.features(probe[:PROBE], "pool")
    began = time.perf_counter()
    taught.features(probe[PROBE:], "pool")
    seconds = time.perf_counter() - began
    return {"examples": PROBE, "examples_per_second": PROBE / seconds, "bytes_per_example": 2 * taught.dim}


def scan(folder: Path, rows: int, threads: int, seed: int) -> dict[str, Any]:
    """Exact search over random int8 codes mapped from files, beside the sum of the same bytes by the same threads."""
    index = random_index(folder, rows, seed)
    queries = np.random.default_rng(seed).standard_normal((ASKED, WIDTH)).astype(np.float32)
    began = time.perf_counter()
    index.search(queries[:1], 10)
    first = time.perf_counter() - began
    mapped = [index.store.mapped(shard)[0].reshape(-1).view(np.int64) for shard in index.shards]
    times: dict[str, list[float]] = {"read": [], "search": [], f"search of {ASKED}": []}
    with ThreadPoolExecutor(threads) as pool:
        turns = [mapped[turn::threads] for turn in range(threads)]
        for turn in range(ROUNDS):
            began = time.perf_counter()
            list(pool.map(lambda parts: sum(int(part.sum()) for part in parts), turns))
            times["read"].append(time.perf_counter() - began)
            began = time.perf_counter()
            index.search(queries[turn : turn + 1], 10)
            times["search"].append(time.perf_counter() - began)
    began = time.perf_counter()
    index.search(queries, 10)
    times[f"search of {ASKED}"].append(time.perf_counter() - began)
    ratios = [b / a for a, b in zip(times["read"], times["search"], strict=True)]
    return {
        "rows": rows,
        "bytes": rows * WIDTH,
        "first_search_with_hashes_s": first,
        "seconds": {name: statistics.median(each) for name, each in times.items()},
        "ratio_to_read": {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)},
        "ratio_of_medians": statistics.median(times["search"]) / statistics.median(times["read"]),
    }


def random_index(folder: Path, rows: int, seed: int) -> Index:
    """An index of random codes, without texts."""
    if not (folder / "manifest.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        rng, code = np.random.default_rng(seed), ScalarCode("int8", np.ones(WIDTH, np.float32))
        writer = StoreWriter(folder, kind="embeddings", code=code, provenance=Provenance(), shard_rows=SHARD_ROWS)
        while writer.rows < rows:
            shard = writer.next_shard(min(SHARD_ROWS, rows - writer.rows))
            vectors = rng.standard_normal((shard.stop - shard.start, WIDTH), np.float32) * 30
            writer.write(shard, vectors, {"id": [str(row) for row in range(shard.start, shard.stop)]})
        writer.finish()
    return Index(folder)


def search(index: Index, folder: Path) -> dict[str, Any]:
    """Of the largest index: what its codes keep, exact search, IVF-PQ, a filter, and all scores as Parquet."""
    rows = np.linspace(0, len(index) - 1, ASKED).astype(int)
    asked = [index.example(int(row)) for row in rows]
    queries = index.encoder.encode_query(asked)
    chosen = [index.example(int(row)) for row in np.linspace(0, len(index) - 1, 4096).astype(int)]
    found: dict[str, Any] = {"codes": measure_codes(index.encoder, chosen, index.encoder.encode_pool(chosen))}
    index.search(queries[:1], 10)
    began = time.perf_counter()
    index.search(queries, 10)
    found["exact_ms_per_query"] = 1000 * (time.perf_counter() - began) / len(queries)
    began = time.perf_counter()
    index.search(queries, 10, where="genre=dolly,characters<500")
    found["filtered_ms_per_query"] = 1000 * (time.perf_counter() - began) / len(queries)
    began = time.perf_counter()
    found["ivf_pq"] = index.approximate.make(index, queries) | {"seconds_to_make": time.perf_counter() - began}
    index.search_approximately(queries, 10)
    began = time.perf_counter()
    index.search_approximately(queries, 10)
    found["ivf_pq"]["ms_per_query"] = 1000 * (time.perf_counter() - began) / len(queries)
    scored = index_verbs.score(index, asked[:4], Folder(folder, overwrite=True))
    found["score_all"] = scored | {"bytes": (folder / "scores.parquet").stat().st_size}
    return found


def figure(found: dict[str, Any]) -> str:
    """Seconds and memory by rows, as SVG."""
    import io

    import matplotlib
    from matplotlib.figure import Figure

    points = [one for name, one in found["indexes"].items() if name.startswith("narrow")]
    rows = [one["rows"] for one in points]
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "influcoder"}):
        drawn = Figure(figsize=(8, 3), layout="constrained")
        left, middle, right = drawn.subplots(1, 3)
        left.loglog(rows, [one["seconds"] for one in points], "o-")
        left.axhline(600, ls="--", color="0.6")
        left.set(title="seconds to embed and index", xlabel="documents")
        middle.semilogx(rows, [one["peak_memory_mb"] for one in points], "o-")
        middle.axhline(2000, ls="--", color="0.6")
        middle.set(title="peak memory, MB", xlabel="documents", ylim=(0, 2200))
        seconds = found["scan"]["seconds"]
        right.bar(["read", "search"], [1000 * seconds["read"], 1000 * seconds["search"]], color=["0.7", "C0"])
        right.axhline(2000 * seconds["read"], ls="--", color="0.6")
        right.set(title=f"ms, {found['scan']['rows'] / 1e6:g}M x {WIDTH} int8")
        sink = io.StringIO()
        drawn.savefig(sink, format="svg", metadata={"Date": None})
    return sink.getvalue()


if __name__ == "__main__":
    main()
