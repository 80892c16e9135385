"""The sections of a page: in the order of questions, each there when its data are, and what they say."""

import re

import pytest

from helpers.report_page import (
    HOSTILE,
    assert_inert,
    example_details,
    example_metrics,
    hit,
    render,
    sections,
    without,
)

ALL = ["asked", "rows", "proof", "trust", "cost", "methods", "notes"]
PROOF = ("conditions", "removed", "proof")


def page_of(folder, metrics=None, details=None):
    return assert_inert(render(folder, metrics, details))


def test_everything_in_the_order_of_questions(tmp_path):
    page = page_of(tmp_path, details=example_details())
    assert sections(page) == ALL
    for words in ("gradient-cosine", "0.930", "tfidf: no words", "A remark.", "Nowhere.", "+0.210", "a note"):
        assert words in page.text
    assert [tag for tag, _ in page.tags].count("svg") == 3


def test_an_evaluation_has_neither_queries_nor_proof(tmp_path):
    metrics = without(example_metrics(), *PROOF, "planted", "certified", "says_what_is_planted")
    page = page_of(tmp_path, metrics)
    assert sections(page) == ["trust", "cost", "methods", "notes"]
    assert "How well fast methods find" in page.text
    assert "A model was asked" not in page.text
    assert not re.search("re-checked|planted|trained again|demo", page.text)


@pytest.mark.parametrize(
    ("left_out", "gone"),
    [
        (PROOF, {"proof"}),
        (["removed"], {"proof"}),
        (["planted", "certified"], set()),
        (["timings_s"], set()),
        (["splits", "seeds", "teacher"], set()),
    ],
)
def test_a_part_without_data_is_left_out(tmp_path, left_out, gone):
    page = page_of(tmp_path, without(example_metrics(), *left_out), example_details())
    assert sections(page) == [name for name in ALL if name not in gone]
    assert ("once it is trained without them" in page.text) is ("proof" not in gone)
    assert ("Finding the planted rows" in page.text) is ("planted" not in left_out)
    assert ("not re-checked" in page.text) is ("certified" not in left_out)
    assert ("in all 14.5" in page.text) is ("timings_s" not in left_out)


def test_nothing_to_say(tmp_path):
    assert sections(page_of(tmp_path, {"methods": {}})) == ["trust"]


def test_the_proof_of_each_question_and_of_all(tmp_path):
    text = page_of(tmp_path, details=example_details()).text
    answers = (
        "on all rows Nowhere. without the 24 rows found Anywhere. changed without 24 random rows nowhere. Over all"
    )
    assert answers in text
    assert "88 % of the answers change without the 24 rows found, 12 % without 24 random rows." in text
    assert "88 %75 % to 100 % 4.25 3.002.50 to 3.50" in text
    assert text.index("Where?") < text.index("+0.210") < text.index("Anywhere.") < text.index("no method can")


def test_questions_without_a_proof_of_their_own(tmp_path):
    details = example_details()
    del details["queries"][0]["proof"]
    page = page_of(tmp_path, details=details)
    assert sections(page) == ALL
    assert "Anywhere." not in page.text
    assert "88 % of the answers change" in page.text


def test_how_far_to_trust_a_question_stands_under_its_rows(tmp_path):
    text = page_of(tmp_path, details=example_details()).text
    assert (
        "ρ 0.50 (four of five such queries: 0.25 to 0.75). With 95 % confidence at most 2.4 % of the other rows" in text
    )
    assert "score above the 2nd found; 1 of 200 random ones do." in text
    assert "at most 1.5 % of the rows that were not re-checked" in text
    assert (
        "agrees with that of real gradients (the teacher’s) at 0.60 per question (95 % interval 0.55 to 0.65)" in text
    )


def test_the_exact_score_says_which_way_a_row_pushes(tmp_path):
    details = example_details()
    details["queries"][0]["opponents"] = [hit(1, 0.02, exact=-0.1), hit(2, 0.01, exact=0.2)]
    html = render(tmp_path, details=details)
    assert re.search(r"▼</span> −0\.100</strong> <span class=\"muted\">estimate \+0\.0200", html)
    assert "Only the rows marked ▼ push away" in html
    details["queries"][0]["opponents"].pop(0)
    assert "No row was found that pushes away" in render(tmp_path, details=details)
    assert "push towards it least" not in render(tmp_path, details=example_details())


def test_more_than_three_rows_are_folded(tmp_path):
    details = example_details()
    assert 'class="rest"' not in render(tmp_path, details=details)
    details["queries"][0]["proponents"] = [hit(rank, 1 / rank) for rank in range(1, 8)]
    html = render(tmp_path, details=details)
    shown, folded = html.split('<details class="rest">')
    assert "row-3</code>" in shown
    assert "4 more" in folded
    assert all(f"row-{rank}</code>" in folded for rank in (4, 5, 6, 7))


def test_the_settings_are_folded_away_at_the_end(tmp_path):
    html = render(tmp_path, details=example_details())
    folded = html[html.index('<details class="fold">') :]
    assert '<h2 id="notes">' in folded
    assert "<details open" not in html
    assert all(words in folded for words in ("A remark.", "gradient-cosine", "tiny", "validation"))
    assert "gradient-cosine" not in html[: html.index('<details class="fold">')]
    assert folded.index("</details>") < folded.index("</main>") < folded.index("</details>") + 20


def test_a_quick_run_says_so(tmp_path):
    assert "The numbers mean little" in page_of(tmp_path, example_metrics() | {"quick": True}).text
    assert "The numbers mean little" not in page_of(tmp_path, example_metrics() | {"quick": False}).text


def test_hostile_answers_of_a_proof_are_text(tmp_path):
    details = example_details()
    details["queries"][0] |= {"answer": HOSTILE, "prompt": HOSTILE, "proof": {"all": HOSTILE, "found": HOSTILE + "2"}}
    page = page_of(tmp_path, details=details)
    assert page.text.count("<script>alert(1)</script>") >= 4
    assert "⟨U+202E⟩evil" in page.text
