"""What docs/results.md says of the run of `scale.py`."""

from typing import Any

from influcoder.benchmarks.results.tables import markdown


def scale(metrics: dict[str, Any]) -> str:
    rows = [
        [
            name,
            f"{one['rows']:,}",
            str(one["dim"]),
            f"{one['seconds']:.0f}",
            f"{one['rows_per_second']:,.0f}",
            f"{one['peak_memory_mb']:,.0f}",
            f"{one['peak_memory_of_one_process_mb']:,.0f}",
            f"{(one['vector_bytes'] + one['column_bytes']) / 1e6:,.0f}",
        ]
        for name, one in metrics["indexes"].items()
    ]
    codes = [
        [name, f"{one['bytes']}", f"{one['recall_at_10']:.3f}", f"{one['per_query_spearman']:.4f}"]
        for name, one in metrics["search"]["codes"].items()
    ]
    scan, search, teacher = metrics["scan"], metrics["search"], metrics["teacher"]
    ms = {name: 1000 * seconds for name, seconds in scan["seconds"].items()}
    ratio, ivf = scan["ratio_to_read"], search["ivf_pq"]
    *before, (probes, recall) = sorted((int(lists), value) for lists, value in ivf["recall_at_10"].items())
    fewer = ", ".join(f"{lists}: {value:.3f}" for lists, value in before)
    largest = max(one["rows"] for one in metrics["indexes"].values())
    times = metrics["times_faster_than_teacher_extrapolated"]
    return f"""## A million documents

`python scripts/measure/scale.py --data DIR`, with {metrics["cores"]} processes. Documents of realistic length, made of
sentences of real rows. `narrow`: the static tier's 64 spectral numbers in int8; `whole`: its identity channels too.
Memory is the largest sum over all processes at a time, with shared pages counted once; beside it the largest of a
single process.

{markdown(["index", "rows", "dim", "s", "rows/s", "peak memory MB", "of one process", "on disk MB"], rows)}

The exact teacher does {teacher["examples_per_second"]:.0f} of the same documents a second on the same cores, at
{teacher["bytes_per_example"]:,} bytes a row: **{times:.0f} times** as long for the same job (extrapolated from
{teacher["examples"]} of them).

![Time, memory, and exact search beside reading memory](runs/scale.svg)

Exact search of {scan["rows"]:,} x 64 random int8 numbers takes {ms["search"]:.0f} ms a query, reading the same
bytes from memory {ms["read"]:.0f} ms: {ratio["median"]:.2f} times (rounds from {ratio["least"]:.2f} to
{ratio["most"]:.2f}). 64 queries at once take {ms["search of 64"]:.0f} ms.

Of {largest:,} documents: exact search {search["exact_ms_per_query"]:.1f} ms a query of 64 at once, with a filter
{search["filtered_ms_per_query"]:.1f} ms. {ivf["kind"]}, {ivf["bytes"]} bytes a row, made in
{ivf["seconds_to_make"]:.0f} s: {ivf["ms_per_query"]:.1f} ms at recall@10 {recall:.3f} with {probes} lists searched
(fewer lists: {fewer or "-"}). What codes keep of the rankings of 4,096 documents:

{markdown(["code", "bytes", "recall@10", "per query ρ"], codes)}"""
