"""A few of the random rows and templates of scripts/measure/fuzz_rows.py, which tries thousands."""

from helpers.measuring import MEASURE, load_script


def test_random_rows_and_templates_are_read_right_or_refused(monkeypatch):
    monkeypatch.syspath_prepend(MEASURE)
    outcomes = load_script("fuzz_rows").run(examples=120)
    assert outcomes["right, read"] == 60
    assert sum(count for outcome, count in outcomes.items() if outcome.startswith("any")) == 60
