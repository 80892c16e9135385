import io
from pathlib import Path

from rich.console import Console

from influcoder.report import proof
from influcoder.report.proof import answer_lines, print_proof, proof_table

FOUND = {
    "loss": 4.25,
    "loss_interval": [4, 5],
    "loss_change": 2.5,
    "loss_change_interval": [2.25, 12.75],
    "changed": 0.9,
    "changed_interval": [0.85, 1.0],
}
METRICS = {
    "removed": 1200,
    "queries": 40,
    "pool": 100_000,
    "seeds": [4, 5],
    "conditions": {
        "all": {"loss": 1.75, "loss_interval": None, "changed_by_seed": 0.05},
        "found": FOUND,
        "random": FOUND | {"loss_change": -0.004, "loss_change_interval": None, "changed_interval": None},
        "tfidf": FOUND,
    },
}


def printed(thing):
    console = Console(width=80)
    with console.capture() as capture:
        console.print(thing)
    return capture.get()


def test_the_table_fits_80_columns():
    text = printed(proof_table(METRICS, "40 queries"))
    assert max(map(len, text.splitlines())) <= 80
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]
    assert rows == [
        ["on all rows", "1.75", "-", "-"],
        ["without the 1200 rows found", "4.25", "+2.50 [+2.25, +12.75]", "90% [85%, 100%]"],
        ["without 1200 random rows", "4.25", "-0.00", "90%"],
        ["without TF-IDF's 1200", "4.25", "+2.50 [+2.25, +12.75]", "90% [85%, 100%]"],
    ]
    assert "Another order of all rows changes 5% of the answers." in text


def test_one_seed_says_nothing_of_another_order(monkeypatch):
    alone = METRICS["conditions"] | {"all": METRICS["conditions"]["all"] | {"changed_by_seed": None}}
    text = shown(monkeypatch, METRICS | {"seeds": [4], "conditions": alone}, [])
    assert "Another order" not in text
    assert "40 queries, 100000 rows, 1 seed\n" in text.replace(" \n", "\n").replace("  ", "")


def shown(monkeypatch, metrics, answers):
    stream = io.StringIO()
    monkeypatch.setattr(proof, "Console", lambda: Console(file=stream, width=200))
    print_proof(metrics, answers, Path("there"))
    return stream.getvalue()


def test_answers_are_shown_for_the_first_queries_and_made_harmless(monkeypatch):
    answers = [
        {"seed": seed, "prompt": f"Where\nis {n}?", "answers": {"all": "\x1b[31mParis", "found": f"Rome {seed} " * 90}}
        for n in range(5)
        for seed in (4, 5)
    ]
    lines = shown(monkeypatch, METRICS, answers).splitlines()
    lines = lines[next(place for place, line in enumerate(lines) if line.startswith("asked")) :]
    assert [line.split(":")[0] for line in lines if ":" in line and line[0] != " "] == [
        *["asked", "before", "without the 1200 rows found"] * 3
    ]
    assert lines[0] == "asked: Where is 0?"
    assert lines[1] == "before: ⟨U+001B⟩[31mParis"
    assert lines[2].startswith("without the 1200 rows found: Rome 4 Rome 4")
    assert lines[-1] == "written to there"
    assert not any("Rome 5" in line or "is 3?" in line for line in lines)


def test_long_answers_are_cut():
    line = answer_lines({"found": "Rome " * 90}, 2)[0].plain
    assert line.endswith("...")
    assert len(line) < 240
