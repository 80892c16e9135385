"""What the terminal shows: numbers and rows on stdout, with control characters made visible."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import rich.console
from rich.table import Table
from rich.text import Text

from influcoder.attribution.hits import Hits
from influcoder.data.examples import Example
from influcoder.extras import is_installed, pip_command
from influcoder.report.method_tables import methods_table
from influcoder.report.sentences import agreement_sentence, certified_sentence, drift_sentence, memorised_sentence
from influcoder.report.tokens import can_light, lit, strongest
from influcoder.report.visible import one_line, visible

DIRECTIONS = {False: "push towards", True: "push away from"}
"""by whether opponents are shown"""


class Console(rich.console.Console):
    """A console that leaves a closed pipe (`| head`) to the program; Rich's own ends it with status 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def print_hits(queries: Sequence[Example], results: Sequence[Hits], opponents: bool, *, answered: bool = False) -> None:
    """Each query and its rows, strongest first.

    Args:
        answered: the completions are the decoder's own answers.
    """
    console = Console()
    for query, hits in zip(queries, results, strict=True):
        if answered:
            _print_question(console, query, answered)
            _print_side(console, hits, opponents)
        else:
            console.print(Text(f"\nRows that {DIRECTIONS[opponents]}: {one_line(query.completion, 100)}"))
            console.print(Text(f"asked: {one_line(query.prompt, 100)}"))
            console.print(hits_table([hit.json() for hit in hits], can_light(console)))
        _print_trust(console, {opponents: hits})
        if hits.memorised:
            console.print(Text(memorised_sentence(len(hits.memorised), len(hits))))


def print_both_sides(query: Example, hits: Hits, against: Hits, *, answered: bool = False) -> None:
    """A query, the rows that push towards its completion, those that push away from it, and how far to trust them."""
    console = Console()
    _print_question(console, query, answered)
    sides = {False: hits, True: against}
    for opponents, side in sides.items():
        _print_side(console, side, opponents)
    _print_trust(console, sides)


def _print_question(console: Console, query: Example, answered: bool) -> None:
    console.print(Text(f"\nAsked: {one_line(query.prompt, 100)}", style="bold"))
    label = "The model's own answer" if answered else "Answer"
    console.print(Text(f"{label}: {one_line(query.completion, 300)}", style="bold"))


def _print_side(console: Console, hits: Hits, opponents: bool) -> None:
    console.print(Text(f"Rows that {DIRECTIONS[opponents]} it:"))
    console.print(hits_table([hit.json() for hit in hits], can_light(console)))


def _print_trust(console: Console, sides: Mapping[bool, Hits]) -> None:
    """The expected agreement, the drift, and the bound of each side: of opponents where the key is True."""
    first = next(iter(sides.values()))
    if first.trust is not None:
        rechecked = first and first[0].exact is not None
        hint = "" if rechecked else " --verify N re-checks the best N with real gradients."
        console.print(Text(agreement_sentence(first.trust) + hint))
    if first.drift is not None:
        console.print(Text(drift_sentence(first.drift)))
    for opponents, hits in sides.items():
        if hits.certified is not None:
            console.print(Text(certified_sentence(hits.certified, len(hits), opponents)))


def hits_as_json(
    queries: Sequence[Example], results: Sequence[Hits], *, answered: bool = False
) -> list[dict[str, Any]]:
    """Queries with their rows, ready for JSON; "answer" is the completion where it is the decoder's own."""
    return [
        {
            "id": query.id,
            "prompt": query.prompt,
            "completion": query.completion,
            "answer": query.completion if answered else None,
            **hits.json(),
        }
        for query, hits in zip(queries, results, strict=True)
    ]


def print_shown(rows: Sequence[Mapping[str, Any]]) -> None:
    """What a decoder reads of some rows: each text as it is, the parts with loss between ⟦ and ⟧."""
    console = Console()
    for row in rows:
        facts = [f"{row['tokens']} tokens, {row['tokens_with_loss']} with loss"]
        facts += [f"the {part} is cut" for part in row["cut"]]
        facts += [f"left out by the chat template: {', '.join(row['left_out'])}"] if row["left_out"] else []
        console.print(Text(f"{one_line(row['id'], 60)}: {'; '.join(facts)}", style="dim"), soft_wrap=True)
        text = Text()
        for part in row["parts"]:
            weight = f"×{part['loss']:g}" if part["loss"] not in (0, 1) else ""
            shown = visible(part["text"])
            text += Text(f"⟦{shown}⟧{weight}", style="bold green") if part["loss"] else Text(shown)
        console.print(text, soft_wrap=True)
        console.print()


def print_left_out(console: Console, metrics: Mapping[str, Any]) -> None:
    """Methods that were not run, and figures that were not drawn."""
    for name, reason in metrics.get("skipped", {}).items():
        console.print(Text(visible(f"not run: {name} ({reason})")))
    if not is_installed("matplotlib"):
        console.print(Text(f"not drawn: the figures of report.html ({pip_command('matplotlib')})"))


def print_numbers(metrics: Mapping[str, Any], folder: Path) -> None:
    """A verb's metrics, and the folder it wrote."""
    console = Console()
    if "methods" in metrics:
        console.print(methods_table(metrics["methods"]))
        print_left_out(console, metrics)
    else:
        for name, value in metrics.items():
            if name == "codes":
                console.print(code_table(value))
            elif name == "students":
                console.print(students_table(value))
            elif not isinstance(value, Mapping):
                console.print(Text(f"{name}: {value}"))
            elif name != "teacher":
                console.print(Text(f"{name}: " + ", ".join(f"{key} {_number(item)}" for key, item in value.items())))
    console.print(Text(f"written to {folder}"), soft_wrap=True)


def code_table(codes: Mapping[str, Mapping[str, float]]) -> Table:
    """How well each code of vectors keeps the rankings of float32."""
    table = Table(title="Codes, against float32 on the first rows", title_justify="left")
    for name in ("code", "bytes an example", "recall@10", "per query ρ"):
        table.add_column(name, justify="left" if name == "code" else "right")
    for name, row in codes.items():
        table.add_row(name, str(row["bytes"]), f"{row['recall_at_10']:.3f}", f"{row['per_query_spearman']:.4f}")
    return table


def students_table(students: Sequence[Mapping[str, Any]]) -> Table:
    """Students that read more or less of the decoder: what each costs, and how well it agrees with the teacher."""
    table = Table(title="Students, on validation", title_justify="left")
    for name in ("reads", "share of a gradient", "per query ρ"):
        table.add_column(name, justify="left" if name == "reads" else "right")
    for student in students:
        table.add_row(student["reads"], f"{student['cost']:.3f}", f"{student['agreement']:.3f}")
    return table


def print_drift(check: Mapping[str, Any]) -> None:
    """The result of a check of drift, its cost, and what to do."""
    gradients, now = check["gradients"], check["agreement_now"]
    least = (1 - check["tolerance"]) * check["agreement_then"]["mean"]
    advice = {
        "stale": "The encoder ranks as its teacher did at an earlier decoder. Refresh it: `influcoder distill --from`.",
        "fine": f"The agreement is surely above {least:.2f}, the least that the tolerance allows.",
        "undecided": f"{gradients} gradients do not show whether it is above {least:.2f}. Give more --budget or more "
        "rows, or treat it as stale.",
    }
    probe = f"{gradients} gradients ({now['queries']} queries, {now['pool']} pool rows), {check['looks']} looks."
    for line in (drift_sentence(check), f"Probe: {probe}", advice[check["verdict"]]):
        Console().print(Text(visible(line)), soft_wrap=True)


def print_versions() -> None:
    """Versions of this package, Python and the main dependencies."""
    import platform
    from importlib.metadata import version

    console = Console()
    console.print(f"influcoder {version('influcoder')}, Python {platform.python_version()}, {platform.platform()}")
    for name in ("torch", "transformers", "peft", "sentence-transformers", "datasets", "faiss-cpu", "numpy", "pyarrow"):
        console.print(f"{name} {version(name)}")


def hits_table(hits: Sequence[Mapping[str, Any]], light: bool = False) -> Table:
    """Rows with their scores; ids are above the texts, where they are whole at any width.

    Args:
        light: colours show which tokens carry the scores; otherwise the strongest are named.
    """
    rechecked = any(hit["exact"] is not None for hit in hits)
    table = Table()
    for name in ("#", "estimate", *(["exact"] if rechecked else [])):
        table.add_column(name, justify="right")
    table.add_column("row", overflow="fold")
    for hit in hits:
        exact = [f"{hit['exact']:+.3f}" if hit["exact"] is not None else ""] if rechecked else []
        table.add_row(str(hit["rank"]), f"{hit['score']:+.3f}", *exact, _row_text(hit, light))
    return table


def _row_text(hit: Mapping[str, Any], light: bool) -> Text:
    text = Text()
    text.append(visible(hit["id"]), "dim")
    text.append("  planted\n" if hit.get("planted") else "\n", "bold")
    text.append(f"{one_line(hit['prompt'], 70)} → ")
    tokens, answer = hit.get("tokens"), hit.get("answer_tokens")
    text.append_text(lit(tokens) if tokens and light else Text(one_line(hit["completion"], 70)))
    if tokens and not light:
        text.append(f"\ntokens: {strongest(tokens)}")
    if answer:
        text.append("\nanswer: ")
        text.append_text(lit(answer) if light else Text(strongest(answer)))
    return text


def _number(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
