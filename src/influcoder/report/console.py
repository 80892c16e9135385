"""What the terminal shows: numbers and rows on stdout, hostile text made harmless."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import rich.console
from rich.table import Table
from rich.text import Text

from influcoder.attribution.certified import Certified
from influcoder.attribution.hits import Hits
from influcoder.data.examples import Example
from influcoder.extras import is_installed, pip_command
from influcoder.report.tokens import can_light, lit, strongest
from influcoder.report.visible import visible

SHOWN = {
    "per_query_spearman": "per query ρ",
    "aggregated_spearman": "aggregated ρ",
    "length_controlled_spearman": "length-controlled ρ",
    "ndcg_at_10": "NDCG@10",
    "top_10_percent_overlap": "top-10 % overlap",
}

ACTING = {False: "push towards", True: "push away from"}
WIDE = 1.5
"""a band of expected agreements as wide as this says nothing, and is not printed"""


class Console(rich.console.Console):
    """A console that leaves a closed pipe (`| head`) to the program; Rich's own ends it with status 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def print_demo(metrics: Mapping[str, Any], shown: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """The demo's tables, its two attributed answers, and where everything lies."""
    console = Console()
    splits, teacher = metrics["splits"], metrics["teacher"]
    console.print(
        f"\nTest: {splits['test_queries']} queries x {splits['test_pool']} pool rows that neither training nor model "
        f"selection has seen (overlap {splits['overlap']}).\nTeacher {teacher['name']}: two seeds of it agree at "
        f"{teacher['reliability']:.3f} per query; {teacher['decoder_parameters']:,} parameters.\n"
    )
    console.print(fidelity_table(metrics["methods"]))
    console.print(speed_table(metrics["methods"]))
    console.print(planted_table(metrics["planted"]))
    _print_left_out(console, metrics)
    for query in shown:
        _print_query(console, query)
    seconds = sum(metrics["timings_s"].values())
    console.print(f"\n{seconds:.0f} s in all. Report: {folder / 'report.html'}")


def fidelity_table(methods: Mapping[str, Mapping[str, Any]]) -> Table:
    """Agreement with the exact teacher, a method a row, 95 % interval under the first metric."""
    table = Table(title="Fidelity to the exact teacher (task queries, unseen rows)", title_justify="left")
    table.add_column("method")
    for name in SHOWN.values():
        table.add_column(name, justify="right")
    for name, values in sorted(methods.items(), key=lambda item: -item[1]["per_query_spearman"]):
        low, high = values["interval_95"]["per_query_spearman"]
        first = f"{values['per_query_spearman']:.3f} [{low:.3f}, {high:.3f}]"
        label = f"{name} (other seed)" if name == "exact" else name
        table.add_row(label, first, *(f"{values[metric]:.3f}" for metric in list(SHOWN)[1:]))
    return table


def speed_table(methods: Mapping[str, Mapping[str, Any]]) -> Table:
    """Cost of scoring an example beside the exact teacher's."""
    table = Table(title="Cost of an example", title_justify="left")
    for name in ("method", "ms", "times faster than exact", "bytes", "times smaller"):
        table.add_column(name, justify="left" if name == "method" else "right")
    exact = methods["exact"]
    for name, values in sorted(methods.items(), key=lambda item: item[1]["ms_per_example"]):
        size = values["bytes_per_example"]
        smaller = f"{exact['bytes_per_example'] / size:,.0f}x" if size else "-"
        faster = f"{exact['ms_per_example'] / values['ms_per_example']:,.1f}x"
        table.add_row(name, f"{values['ms_per_example']:.3f}", faster, f"{size:,}", smaller)
    return table


def planted_table(planted: Mapping[str, Mapping[str, float]]) -> Table:
    """How well each method finds the rows that taught the test facts."""
    table = Table(title="Rows that taught the 20 test facts, among look-alikes", title_justify="left")
    for name in ("method", "recall@10", "MRR"):
        table.add_column(name, justify="left" if name == "method" else "right")
    for name, values in sorted(planted.items(), key=lambda item: -item[1]["recall_at_10"]):
        table.add_row(name, f"{values['recall_at_10']:.3f}", f"{values['mrr']:.3f}")
    return table


def print_hits(queries: Sequence[Example], found: Sequence[Hits], opponents: bool, *, answered: bool = False) -> None:
    """Each query and its rows, strongest first.

    Args:
        answered: the completions are the decoder's own answers.
    """
    console = Console()
    for query, hits in zip(queries, found, strict=True):
        if answered:
            _print_question(console, query, own=True)
            _print_side(console, hits, opponents)
        else:
            console.print(Text(f"\nRows that {ACTING[opponents]}: {_line(query.completion, 100)}"))
            console.print(Text(f"asked: {_line(query.prompt, 100)}"))
            console.print(_hits_table([hit.json() for hit in hits], can_light(console)))
        for line in _how_far_to_trust({opponents: hits}):
            console.print(Text(line))


def print_both_sides(query: Example, hits: Hits, against: Hits, *, answered: bool = False) -> None:
    """A query, the rows that push towards its completion, those that push away from it, and how far to trust them."""
    console = Console()
    _print_question(console, query, own=answered)
    sides = {False: hits, True: against}
    for opponents, side in sides.items():
        _print_side(console, side, opponents)
    for line in _how_far_to_trust(sides):
        console.print(Text(line))


def _print_question(console: Console, query: Example, *, own: bool) -> None:
    console.print(Text(f"\nAsked: {_line(query.prompt, 100)}", style="bold"))
    whose = "The model's own answer" if own else "Answer"
    console.print(Text(f"{whose}: {_line(query.completion, 300)}", style="bold"))


def _print_side(console: Console, hits: Hits, opponents: bool) -> None:
    console.print(Text(f"Rows that {ACTING[opponents]} it:"))
    console.print(_hits_table([hit.json() for hit in hits], can_light(console)))


def _how_far_to_trust(sides: Mapping[bool, Hits]) -> Iterator[str]:
    """The expected agreement, and what a re-check proves of each side: of opponents where the key is True."""
    first = next(iter(sides.values()))
    if first.trust is not None:
        expected, low, high = first.trust
        more = "" if first and first[0].exact is not None else " --verify N re-checks the best N with real gradients."
        band = f" (four of five such queries: {low:.2f} to {high:.2f})" if high - low < WIDE else ""
        yield f"Expected agreement of the encoder's ranking with the teacher's: ρ {expected:.2f}{band}.{more}"
    for opponents, hits in sides.items():
        if hits.certified is not None:
            yield certified_sentence(hits.certified, len(hits), opponents)


def certified_sentence(certified: Certified, shown: int, opponents: bool = False) -> str:
    """What a random sample of the rows that were not re-checked proves of the others.

    >>> certified_sentence(Certified(200, 0, 940, 0.01486, 0.95), 3)
    'With 95 % confidence at most 1.5 % of the other rows (of 940) score above the 3rd found; 0 of 200 random ones do.'
    """
    end = "th" if shown % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(shown % 10, "th")
    beyond = f"score {'below' if opponents else 'above'} the {shown}{end} found"
    if certified.others == 0:
        return "Every row was re-checked."
    if certified.sampled == certified.others:
        return f"All {certified.others:,} other rows were re-checked as well: {certified.above:,} {beyond}."
    percent = _rounded_up(100 * certified.at_most)
    return (
        f"With {certified.confidence:.0%} confidence at most {percent} % of the other rows (of {certified.others:,}) "
        f"{beyond}; {certified.above:,} of {certified.sampled:,} random ones do."
    ).replace("95%", "95 %")


def _rounded_up(value: float) -> str:
    """Two digits that do not promise too much."""
    step = 10.0 ** (math.floor(math.log10(value)) - 1) if value > 0 else 1.0
    return f"{math.ceil(value / step - 1e-9) * step:.2g}" if value < 99 else "100"


def hits_as_json(queries: Sequence[Example], found: Sequence[Hits], *, answered: bool = False) -> list[dict[str, Any]]:
    """Queries with their rows, ready for JSON; "answer" is the completion where it is the decoder's own."""
    return [
        {
            "id": query.id,
            "prompt": query.prompt,
            "completion": query.completion,
            "answer": query.completion if answered else None,
            **hits.json(),
        }
        for query, hits in zip(queries, found, strict=True)
    ]


def print_shown(rows: Sequence[Mapping[str, Any]]) -> None:
    """What a decoder reads of some rows: each text as it stands, its loss between ⟦ and ⟧."""
    console = Console()
    for row in rows:
        facts = [f"{row['tokens']} tokens, {row['tokens_with_loss']} with loss"]
        facts += [f"the {part} is cut" for part in row["cut"]]
        facts += [f"left out by the chat template: {', '.join(row['left_out'])}"] if row["left_out"] else []
        console.print(Text(f"{_line(row['id'], 60)}: {'; '.join(facts)}", style="dim"), soft_wrap=True)
        text = Text()
        for part in row["parts"]:
            weight = f"×{part['loss']:g}" if part["loss"] not in (0, 1) else ""
            words = visible(part["text"])
            text += Text(f"⟦{words}⟧{weight}", style="bold green") if part["loss"] else Text(words)
        console.print(text, soft_wrap=True)
        console.print()


def _print_left_out(console: Console, metrics: Mapping[str, Any]) -> None:
    for name, reason in metrics.get("skipped", {}).items():
        console.print(Text(f"not run: {name} ({reason})"))
    if not is_installed("matplotlib"):
        console.print(Text(f"not drawn: the figures of report.html ({pip_command('matplotlib')})"))


def print_numbers(found: Mapping[str, Any], folder: Path) -> None:
    """A verb's numbers, and where it wrote."""
    console = Console()
    if "methods" in found:
        console.print(fidelity_table(found["methods"]))
        _print_left_out(console, found)
    else:
        for name, value in found.items():
            if name == "codes":
                console.print(code_table(value))
            elif not isinstance(value, Mapping):
                console.print(Text(f"{name}: {value}"))
            elif name != "teacher":
                console.print(Text(f"{name}: " + ", ".join(f"{key} {_number(item)}" for key, item in value.items())))
    console.print(Text(f"written to {folder}"), soft_wrap=True)


def code_table(codes: Mapping[str, Mapping[str, float]]) -> Table:
    """What each way to store a vector keeps of the rankings, against float32."""
    table = Table(title="Codes, against float32 on the first rows", title_justify="left")
    for name in ("code", "bytes an example", "recall@10", "per query ρ"):
        table.add_column(name, justify="left" if name == "code" else "right")
    for name, one in codes.items():
        table.add_row(name, str(one["bytes"]), f"{one['recall_at_10']:.3f}", f"{one['per_query_spearman']:.4f}")
    return table


def print_versions() -> None:
    """Versions of this package, Python and what it stands on."""
    import platform
    from importlib.metadata import version

    console = Console()
    console.print(f"influcoder {version('influcoder')}, Python {platform.python_version()}, {platform.platform()}")
    for name in ("torch", "transformers", "peft", "sentence-transformers", "datasets", "faiss-cpu", "numpy", "pyarrow"):
        console.print(f"{name} {version(name)}")


def _print_query(console: Console, query: Mapping[str, Any]) -> None:
    console.print(Text(f"\nAsked: {_line(query['prompt'], 110)}", style="bold"))
    console.print(Text(f"The model's own answer: {_line(query['answer'] or '', 110)}", style="bold"))
    console.print(_hits_table(query["proponents"], can_light(console)))


def _hits_table(hits: Sequence[Mapping[str, Any]], light: bool = False) -> Table:
    """Rows with their scores; ids stand over the texts, where they are whole at any width.

    Args:
        light: colours show which tokens carry the scores; else the strongest are named.
    """
    rechecked = any(hit["exact"] is not None for hit in hits)
    table = Table()
    table.add_column("#", justify="right")
    table.add_column("estimate", justify="right")
    if rechecked:
        table.add_column("exact", justify="right")
    table.add_column("row", overflow="fold")
    for hit in hits:
        exact = [f"{hit['exact']:+.3f}" if hit["exact"] is not None else ""] if rechecked else []
        table.add_row(str(hit["rank"]), f"{hit['score']:+.3f}", *exact, _row_text(hit, light))
    return table


def _row_text(hit: Mapping[str, Any], light: bool) -> Text:
    text = Text()
    text.append(visible(hit["id"]), "dim")
    text.append("  planted\n" if hit.get("planted") else "\n", "bold")
    text.append(f"{_line(hit['prompt'], 70)} → ")
    tokens, answer = hit.get("tokens"), hit.get("answer_tokens")
    text.append_text(lit(tokens) if tokens and light else Text(_line(hit["completion"], 70)))
    if tokens and not light:
        text.append(f"\ntokens: {strongest(tokens)}")
    if answer:
        text.append("\nanswer: ")
        text.append_text(lit(answer) if light else Text(strongest(answer)))
    return text


def _line(text: str, limit: int) -> str:
    line = visible(" ".join(text.split()))
    return line if len(line) <= limit else line[: limit - 3] + "..."


def _number(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
