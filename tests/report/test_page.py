import re
import subprocess
import sys
from importlib import resources

import pytest

from helpers.report_page import HOSTILE, assert_inert, example_details, example_metrics, hit, render, without
from influcoder.errors import StoreError
from influcoder.report.figures import Point, forest, histogram, scatter
from influcoder.report.page import write_report
from influcoder.report.visible import visible


def test_methods_are_sorted_and_the_ceiling_marked(tmp_path):
    html = render(tmp_path)
    table = html[html.index('id="methods"') : html.index("<figure")]
    names = re.findall(r'<th scope="row"><span class="name[^"]*">([^<]*)', table)
    assert names == ["exact", "influcoder", "surface", "bm25", "random"]
    assert table.count('<tr class="ceiling">') == 1
    assert "0.850 to 0.950" in table
    assert "−0.010" in table


def test_both_glyphs_and_the_band(tmp_path):
    html = render(tmp_path, details=example_details())
    assert re.search(r"▲</span> \+0\.210</strong> <span class=\"muted\">estimate \+0\.190", html)
    assert re.search(r"▼</span> −0\.170", html)
    assert html.count("inside the grey band</span>") == 1
    assert html.count('badge">planted for this question') == 1


def test_same_input_same_bytes(tmp_path):
    assert render(tmp_path, details=example_details()) == render(tmp_path, details=example_details())
    code = (
        "import sys, pathlib; from influcoder.report.page import write_report; write_report(pathlib.Path(sys.argv[1]))"
    )
    before = (tmp_path / "report.html").read_bytes()
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert (tmp_path / "report.html").read_bytes() == before


def everywhere(value, text):
    """The same structure with `text` added to every text and name of a free table."""
    if isinstance(value, str):
        return value + text
    if isinstance(value, list):
        return [everywhere(item, text) for item in value]
    return {key: everywhere(item, text) for key, item in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("filler", ["", "long " * 100])
def test_hostile_text_is_inert_everywhere(tmp_path, filler):
    metrics, details = (everywhere(one, filler + HOSTILE) for one in (example_metrics(), example_details()))
    for table in ("methods", "planted", "skipped", "timings_s", "conditions"):
        metrics[table] |= {name + HOSTILE: row for name, row in metrics[table].items()}
    details["provenance"] |= {HOSTILE: {HOSTILE: HOSTILE}}
    details["queries"][0]["proof"] |= {HOSTILE: HOSTILE}
    html = render(tmp_path, metrics, details)
    page = assert_inert(html)
    for words in ("<script>alert(1)</script>", "{{ 7*7 }}{% raw %}", "⟨U+202E⟩evil⟨U+200B⟩⟨U+0000⟩⟨U+001B⟩"):
        assert words in page.text
    assert not re.search("[\u202e\u200b\x00\x1b]", html)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\nc", "a\tb\nc"),
        ("a\r\nb\rc", "a\nb⟨U+000D⟩c"),
        ("\u2066x\u2069\ufeff\xad", "⟨U+2066⟩x⟨U+2069⟩⟨U+FEFF⟩⟨U+00AD⟩"),
        ("\u2028\u3164\U000e0041\ue000", "⟨U+2028⟩⟨U+3164⟩⟨U+E0041⟩⟨U+E000⟩"),
        ("naïve 漢字 עברית 🙂", "naïve 漢字 עברית 🙂"),
    ],
)
def test_what_cannot_be_seen_is_spelt_out(text, shown):
    assert visible(text) == shown


def test_letters_that_the_drawing_font_lacks_and_mathtext_are_text(tmp_path):
    metrics = example_metrics()
    metrics["methods"] |= {"漢字 $x_1$": {"per_query_spearman": 0.3}}
    assert ">漢字 $x_1$</text>" in render(tmp_path, metrics)


def test_a_tag_in_a_long_text_is_folded(tmp_path):
    details = example_details()
    details["queries"][0]["proponents"][0]["prompt"] = "word " * 200
    details["queries"][0]["proponents"][1]["prompt"] = "line\n" * 20
    html = render(tmp_path, details=details)
    assert html.count('<details class="text"') == 2
    assert "all 1,000 characters" in html


@pytest.mark.parametrize(
    "metrics",
    [
        {"methods": {}},
        {"methods": {"influcoder": {}}},
        {"methods": {"influcoder": {"per_query_spearman": None, "interval_95": None, "ms_per_example": 0}}},
        {"methods": {"bm25": {"per_query_spearman": 0.1, "ms_per_example": 0.5}}, "teacher": None, "splits": None},
        {"methods": {"bm25": {"per_query_spearman": 0.1, "interval_95": {"per_query_spearman": [None, 1]}}}},
        without(example_metrics(), "planted", "skipped", "timings_s"),
    ],
)
def test_missing_parts_of_the_metrics(tmp_path, metrics):
    page = assert_inert(render(tmp_path, metrics))
    assert not re.search(r"\b(nan|none|null|inf|undefined)\b", page.text.replace("None found", ""), re.IGNORECASE)
    assert "training rows for and against" not in page.text
    assert "Finding the planted rows" not in page.text or "planted" in metrics


@pytest.mark.parametrize(
    "query",
    [
        {"id": "bare"},
        {"id": "nulls", "answer": None, "histogram": None, "null_band": None, "proponents": None, "opponents": []},
        {"id": "wrong", "histogram": {"edges": [0, 0], "counts": [1]}, "null_band": [0]},
        {"id": "empty", "histogram": {"edges": [], "counts": []}, "proponents": [{"rank": 1, "score": None}]},
        {"id": "zero", "histogram": {"edges": [-1, 1], "counts": [0]}, "opponents": [hit(1, 0.0)]},
    ],
)
def test_missing_parts_of_a_query(tmp_path, query):
    page = assert_inert(render(tmp_path, details={"queries": [query]}))
    assert "not recorded" in page.text
    assert not re.search(r"\b(nan|null|inf|undefined)\b", page.text.replace("null band", ""), re.IGNORECASE)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "not found"),
        (b"{", "not JSON"),
        (b'{"methods": {"a": {"ndcg_at_10": NaN}}}', "not JSON"),
        (b"[]", "expected a JSON object, found list"),
        (b"{}", 'no "methods"'),
        (b'{"methods": [1]}', 'no "methods"'),
        (b'{"methods": {"a": {"interval_95": 3}}}', "not in the form"),
    ],
)
def test_unusable_metrics_are_named(tmp_path, content, words):
    if content is not None:
        (tmp_path / "metrics.json").write_bytes(content)
    with pytest.raises(StoreError, match=re.escape(words)) as caught:
        write_report(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert not (tmp_path / "report.html").exists()


def test_unusable_details_are_named(tmp_path):
    (tmp_path / "report.json").write_bytes(b"nonsense")
    with pytest.raises(StoreError, match=r"report\.json: not JSON"):
        render(tmp_path)


@pytest.mark.parametrize(
    "details",
    [
        {"provenance": [1]},
        {"queries": 3},
        {"queries": ["text"]},
        {"queries": [{"proponents": [hit(1, 0.1, prompt=5)]}]},
    ],
)
def test_details_of_another_form_are_refused(tmp_path, details):
    with pytest.raises(StoreError, match="not in the form"):
        render(tmp_path, details=details)


def luminance(colour):
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    dark, light = sorted((luminance(a), luminance(b)))
    return (light + 0.05) / (dark + 0.05)


def test_both_themes_have_contrast():
    template = resources.files("influcoder.report").joinpath("templates/components.css").read_text()
    themes = [dict(re.findall(r"--(\w+): (#\w{6})", line)) for line in template.splitlines() if "--page:" in line]
    assert len(themes) == 2
    for theme in themes:
        for ground in (theme["page"], theme["card"]):
            assert min(contrast(theme[name], ground) for name in ("ink", "muted", "blue", "orange")) >= 4.5
        assert min(contrast(theme[name], theme["band"]) for name in ("ink", "blue", "orange")) >= 3


def test_tokens_are_lit_by_their_share(tmp_path):
    details = example_details()
    told = {"tokens": [["The", 0.01], [" re", 0.2], ["", -0.09]], "answer_tokens": [["Here", -0.4], [HOSTILE, 0.2]]}
    details["queries"][0]["proponents"][0] |= told
    html = render(tmp_path, details=details)
    page = assert_inert(html)
    lit = [one for tag, one in page.tags if tag == "span" and "title" in one]
    assert [(one["class"], one["title"]) for one in lit] == [
        ("towards3", "+0.200"),
        ("away2", "−0.0900"),
        ("away3", "−0.400"),
        ("towards2", "+0.200"),
    ]
    assert "The re (end)" in page.text
    assert "What it pushes of the answer" in page.text
    assert "Lit tokens" in page.text
    assert "Lit tokens" not in render(tmp_path, details=example_details())


def test_long_lit_completions_are_folded(tmp_path):
    details = example_details()
    words = [["word ", 0.1 * (n % 7)] for n in range(100)]
    details["queries"][0]["proponents"][0] |= {"completion": "word " * 100, "tokens": words}
    page = assert_inert(render(tmp_path, details=details))
    assert "all 500 characters" in page.text
    assert page.text.count("word") > 100


def test_only_figures_are_not_escaped():
    folder = resources.files("influcoder.report").joinpath("templates")
    template = "".join(file.read_text() for file in folder.iterdir())
    assert set(re.findall(r"\{\{ ([^}]*?)\|safe", template)) == {"forest", "scatter", "query.figure"}
    assert template.count("safe }}") == template.count("|safe") == 3
    assert "autoescape" not in template


def test_figures_take_the_colours_of_the_page():
    points = [Point("influcoder", 0.5, (0.4, 0.6), 0.2, "ours"), Point("exact", 0.9, None, 20.0, "ceiling")]
    for svg in (forest(points), scatter(points), histogram("query-1", [-1, 0, 1], [3, 4], (-0.1, 0.1), [0.5, -0.5])):
        assert not re.search(r"#[0-9a-f]{6}", svg)
        assert "var(--" in svg
        assert "http" not in svg
        assert svg.startswith("<svg")
        assert "<title>" in svg
        assert 'aria-label="' in svg
        assert "<text" in svg


def test_figures_without_anything_to_draw():
    assert forest([]) == scatter([]) == scatter([Point("a", 0.5), Point("b", 0.5, cost=0.0)]) == ""
    assert histogram("query-1", [0, 1], [1, 2]) == histogram("query-1", [], []) == ""


def test_importing_is_cheap():
    code = (
        "import sys, influcoder.report.page; print([m for m in ('matplotlib', 'jinja2', 'torch') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"
