"""What `demo` shows in the terminal, in the order of its questions."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from influcoder.report.console import Console, hits_table, print_left_out
from influcoder.report.method_tables import methods_table, planted_table
from influcoder.report.proof import answer_lines, proof_table
from influcoder.report.sentences import certified_together
from influcoder.report.tokens import can_light
from influcoder.report.visible import one_line

QUESTIONS = "questions.jsonl"
"""in the demo's folder: the questions to the trained model, with its own answers"""
TRAINED = "trained"
"""in the demo's folder: the model that was asked"""
ROWS = 3
"""shown for each question; the page has more"""


def print_demo(
    metrics: Mapping[str, Any], shown: Sequence[Mapping[str, Any]], folder: Path, decoder: str | Path
) -> None:
    """A few answers and the rows behind them, the proof, how far to trust it, its cost, and where the files are.

    Args:
        decoder: the one that re-checks what the demo's index finds.
    """
    console = Console()
    for query in shown:
        _print_query(console, query, metrics["removed"])
    console.print()
    console.print(proof_table(metrics, "Over all test questions"))
    console.print(Text(f"\n{certified_together(metrics['certified'])}\n"))
    console.print(planted_table(metrics["planted"]))
    console.print()
    console.print(methods_table(metrics["methods"]))
    print_left_out(console, metrics)
    if metrics["quick"]:
        console.print(Text("A quick run on a small part of the data: its numbers mean little."))
    total = f"\n{metrics['timings_s']['total']:.0f} s in all. Report: {folder / 'report.html'}"
    console.print(Text(total), soft_wrap=True)
    console.print(Text(how_to_serve(folder, decoder)), soft_wrap=True)


def how_to_serve(folder: Path, decoder: str | Path) -> str:
    """The command that opens a demo's index in the browser."""
    words = ["influcoder", "serve", "--index", str(folder / "index"), "--decoder", str(decoder)]
    asked = ["--answers-from", str(folder / TRAINED), "--queries", str(folder / QUESTIONS)]
    return f"In the browser:\n  {shlex.join(words)} \\\n      {shlex.join(asked)}"


def _print_query(console: Console, query: Mapping[str, Any], removed: int) -> None:
    console.print(Text(f"\nAsked: {one_line(query['prompt'])}", style="bold"))
    console.print(Text(f"The model's own answer: {one_line(query['answer'] or '')}", style="bold"))
    console.print(Text("The rows that push towards it most:"))
    rows = [{name: value for name, value in hit.items() if name != "answer_tokens"} for hit in query["proponents"]]
    console.print(hits_table(rows[:ROWS], can_light(console)))
    console.print(Text("Retrained from the start, and asked again:"))
    for line in answer_lines(query["proof"], removed):
        console.print(line)
