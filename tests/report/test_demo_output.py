"""What `influcoder demo` shows in a terminal of 80 columns."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from helpers.report_page import HOSTILE, example_details, example_metrics, hit
from influcoder.report import console as tables
from influcoder.report import demo_output
from influcoder.report.method_tables import methods_table, planted_table

NAMES = ("influcoder-exact-query", "influcoder-verify-50", "another-method-with-a-name-of-far-too-many-letters")


def printed(monkeypatch, *, hostile="", terminal=False):
    query = example_details()["queries"][0]
    rows = [hit(rank, 0.5, exact=0.4, completion=f"There.{hostile}") for rank in range(1, 7)]
    told = [["The", 0.4], ["re.", -0.1], [hostile, 0.2]]
    rows = [row | {"tokens": told, "answer_tokens": [["never", 1.0]]} for row in rows]
    query |= {"prompt": f"Where?{hostile}", "answer": f"Nowhere.{hostile}", "proponents": rows}
    query["proof"] = {name: text + hostile for name, text in query["proof"].items()}
    metrics = example_metrics() | {"quick": True, "skipped": {f"bm25{hostile}": "pip"}}
    metrics["methods"] |= {name + hostile: metrics["methods"]["influcoder"] for name in NAMES}
    metrics["planted"] |= {name + hostile: metrics["planted"]["influcoder"] for name in NAMES}
    stream = io.StringIO()
    made = Console(file=stream, width=80, force_terminal=terminal, color_system="truecolor" if terminal else None)
    monkeypatch.setattr(demo_output, "Console", lambda: made)
    demo_output.print_demo(metrics, [query, query], Path("runs/demo"), "demo/decoder")
    return stream.getvalue()


def test_in_the_order_of_questions_and_short(monkeypatch):
    out = printed(monkeypatch)
    order = [
        "Asked: Where?",
        "The model's own answer: Nowhere.",
        "row-3",
        "before: Nowhere.\nwithout the 24 rows found: Anywhere.\nwithout 24 random rows: nowhere.",
        "Over all test questions",
        "88% [75%, 100%]",
        "not re-checked",
        "Finding the planted rows",
        "Agreement with the exact teacher",
        "not run: bm25",
        "A quick run",
        "14 s in all. Report: runs/demo/report.html",
        "In the browser:",
        "  influcoder serve --index runs/demo/index --decoder demo/decoder \\\n"
        "      --answers-from runs/demo/trained --queries runs/demo/questions.jsonl",
    ]
    places = [out.index(words) for words in order]
    assert places == sorted(places)
    assert "row-4" not in out
    assert "never" not in out
    assert len(out.splitlines()) < 95


def test_80_columns_hold_whole_names(monkeypatch):
    out = printed(monkeypatch)
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out
    for name in (*NAMES[:2], "exact (other seed)", "0.600   0.55 to 0.65", "0.900   0.85 to 0.95"):
        assert name in out


@pytest.mark.parametrize("rows", ["methods", "planted"])
def test_a_name_that_is_too_long_is_folded_and_not_cut(rows):
    name = "x" * 100 + "end"
    table = {"methods": methods_table, "planted": planted_table}[rows]
    row = example_metrics()[rows]["influcoder"]
    console = Console(width=80)
    with console.capture() as capture:
        console.print(table({name: row}))
    lines = capture.get().splitlines()
    assert max(map(len, lines)) <= 80
    assert "".join(line.split()[0] for line in lines if line.startswith(("x", "end"))) == name


def test_tokens_are_lit_on_a_terminal(monkeypatch):
    assert "\x1b[1;37;48;2;0;150;60mThe\x1b" in printed(monkeypatch, terminal=True)


def test_hostile_text_is_harmless(monkeypatch):
    out = printed(monkeypatch, hostile=f"[red]{HOSTILE}")
    assert not set(out) & set("\x1b\u202e\u200b\x00")
    assert "[red]" in out
    assert max(map(len, out.splitlines())) <= 80


def test_numbers_of_an_evaluation_use_the_same_table(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(tables, "Console", lambda: Console(file=stream, width=80))
    tables.print_numbers(example_metrics(), Path("there"))
    assert "exact (other seed)" in stream.getvalue()
    assert "…" not in stream.getvalue()


def test_students_of_a_cost_are_a_table(capsys):
    students = [{"reads": "tokens looked up", "cost": 0.0, "agreement": 0.34}]
    tables.print_numbers({"cost": {"asked": 0.1, "reads": "tokens looked up"}, "students": students}, Path("there"))
    printed = capsys.readouterr().out
    assert "reads tokens looked up" in printed
    assert re.search(r"│ tokens looked up +│ +0.000 │ +0.340 │", printed)
    assert all(len(line) <= 80 for line in printed.splitlines())
