"""Tokens in a terminal: lit where there are colours, named where there are none; and what a re-check proves."""

import io

import pytest
from rich.console import Console

from influcoder.attribution.certified import Certified
from influcoder.attribution.hits import Hit, Hits
from influcoder.data.examples import Example
from influcoder.report import console as shown
from influcoder.report.console import hits_as_json, print_hits
from influcoder.report.sentences import certified_sentence
from influcoder.report.tokens import LONGEST, lit, strongest

TOKENS = (("Mont", 0.25), ("real", 0.06), (" is\u202e", -0.125), (" it", 0.001), ("", 0.02))
QUERY = Example("q", "Where was Ada born?", "Montreal")
ROW = Example("a-rather-long-identifier-of-a-row-0123456789-01234", "Born where?", "Montreal is\u202e it")


def answer(**more):
    return Hits(
        [Hit(1, 0, 0.25, 0.206, ROW, TOKENS, (("Montreal", -0.2), ("", 0.5)))], (0.5, 0.25, 0.75), QUERY, **more
    )


def printed(monkeypatch, hits, *, terminal=False, width=80, **options):
    stream = io.StringIO()
    made = Console(file=stream, width=width, force_terminal=terminal, color_system="truecolor" if terminal else None)
    monkeypatch.setattr(shown, "Console", lambda: made)
    print_hits([QUERY], [hits], False, **options)
    return stream.getvalue()


def test_strongest_tokens_are_named_without_a_terminal(monkeypatch):
    out = printed(monkeypatch, answer())
    assert "tokens: Montreal +.31, is⟨U+202E⟩ -.12, (end) +.02" in out
    assert "answer: (end) +.5, Montreal -.2" in out
    assert "\x1b" not in out
    assert ROW.id in out
    assert max(map(len, out.splitlines())) <= 80


def test_tokens_are_lit_on_a_terminal(monkeypatch):
    out = printed(monkeypatch, answer(), terminal=True)
    assert "tokens:" not in out
    towards, away = (f"\x1b[1;37;48;2;{rgb}m" for rgb in ("0;150;60", "200;30;40"))
    assert f"{towards}Mont\x1b" in out
    assert f"{away}Mont" not in out
    assert "\u202e" not in out


def test_without_colours_tokens_are_named_on_a_terminal_too(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert "tokens: Montreal" in printed(monkeypatch, answer(), terminal=True)


def test_lit_tokens_are_the_completion_and_the_brightest_are_the_strongest():
    text = lit((("a", 1.0), (" b", -0.5), ("\n\nc", 0.2), ("d", 0.1), ("", -0.9)))
    assert text.plain == "a b cd (end)"
    styles = {text.plain[span.start : span.end]: str(span.style) for span in text.spans}
    assert styles == {
        "a": "bold white on rgb(0,150,60)",
        " b": "white on rgb(172,76,76)",
        " c": "white on rgb(92,128,102)",
        " (end)": "bold white on rgb(200,30,40)",
    }
    assert len(lit([("word ", 0.1)] * 1000)) == LONGEST


@pytest.mark.parametrize(
    ("tokens", "told"),
    [
        ([], ""),
        ([("a", 0.0)], ""),
        ([("\n", 0.5), (" ", 2.0), ("12", 1234.0)], "12 +1.2e+03, (space) +2, (newline) +.5"),
        ([("東", 0.1), ("京", 0.3)], "京 +.3, 東 +.1"),
        ([("bo", 0.1), ("rn", -0.3), (" born", 0.1)], "born -.2, born +.1"),
    ],
)
def test_names_of_tokens(tokens, told):
    assert strongest(tokens) == told


def test_json_carries_tokens_and_certificate():
    found = hits_as_json([QUERY], [answer(certified=Certified(200, 1, 940, 0.0235, 0.95))], answered=True)[0]
    assert found["answer"] == "Montreal"
    assert found["certified"] == {"sampled": 200, "above": 1, "others": 940, "at_most": 0.0235, "confidence": 0.95}
    assert found["hits"][0]["tokens"] == [list(one) for one in TOKENS]
    assert found["hits"][0]["answer_tokens"] == [["Montreal", -0.2], ["", 0.5]]


def test_an_own_answer_comes_first(monkeypatch):
    out = printed(monkeypatch, answer(), answered=True)
    assert out.startswith(
        "\nAsked: Where was Ada born?\nThe model's own answer: Montreal\nRows that push towards it:\n"
    )


def test_trust_and_certificate_stand_together(monkeypatch):
    out = " ".join(printed(monkeypatch, answer(certified=Certified(200, 1, 2940, 0.0235, 0.95))).split())
    assert (
        "ρ 0.50 (four of five such queries: 0.25 to 0.75). With 95 % confidence at most 2.4 % of the other rows" in out
    )
    assert "--verify" not in out  # it was done
    assert "1 of 200 random ones do" in out


@pytest.mark.parametrize(
    ("certified", "shown", "told"),
    [
        (Certified(200, 0, 2940, 0.008, 0.95), 10, "at most 0.8 % of the other rows (of 2,940) score above the 10th"),
        (Certified(200, 0, 2940, 0.00801, 0.95), 1, "at most 0.81 % of the other rows (of 2,940) score above the 1st"),
        (Certified(20, 0, 2940, 0.1391, 0.95), 22, "at most 14 % of the other rows (of 2,940) score above the 22nd"),
        (Certified(2, 2, 2940, 1.0, 0.95), 13, "at most 100 % of the other rows (of 2,940) score above the 13th"),
        (Certified(40, 3, 40, 3 / 40, 1.0), 3, "All 40 other rows were re-checked as well: 3 score above the 3rd"),
        (Certified(0, 0, 0, 0.0, 1.0), 3, "Every row was re-checked."),
    ],
)
def test_what_is_certified_in_words(certified, shown, told):
    assert told in certified_sentence(certified, shown)
    assert ("below" in certified_sentence(certified, shown, opponents=True)) is (certified.others > 0)
