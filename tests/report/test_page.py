import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib import resources

import orjson
import pytest

from influcoder.errors import StoreError
from influcoder.report.figures import Point, forest, histogram, scatter
from influcoder.report.page import write_report
from influcoder.report.visible import visible

METHODS = {"influcoder": 0.6, "surface": 0.2, "random": -0.01, "exact": 0.9, "bm25": 0.1}
HOSTILE = (
    '</script><script>alert(1)</script><img src=x onerror="alert(2)">{{ 7*7 }}{% raw %}&"\'\u202eevil\u200b\x00\x1b'
)


def hit(rank, score, **more):
    facts = {"rank": rank, "id": f"row-{rank}", "score": score, "exact": None, "planted": False, "note": None}
    return facts | {"prompt": "Where is it?", "completion": "There."} | more


def example_metrics():
    methods = {
        name: {
            "per_query_spearman": value,
            "aggregated_spearman": value,
            "length_controlled_spearman": value,
            "ndcg_at_10": value,
            "top_10_percent_overlap": value,
            "ms_per_example": 1 + 10 * value,
            "bytes_per_example": 512,
            "interval_95": {"per_query_spearman": [value - 0.05, value + 0.05]},
        }
        for name, value in METHODS.items()
    }
    splits = {f"{split}_{side}": 10 for split in ("train", "validation", "test") for side in ("queries", "pool")}
    return {
        "schema": 1,
        "seeds": [0, 1],
        "splits": splits | {"overlap": 0},
        "teacher": {"name": "gradient-cosine", "reliability": 0.93, "examples_per_second": 55.5},
        "methods": methods,
        "planted": {"influcoder": {"recall_at_10": 0.7, "mrr": 0.8}},
        "skipped": {"tfidf": "no words"},
        "timings_s": {"teacher": 12.5},
    }


def example_details():
    query = {
        "id": "fact-1",
        "prompt": "Where?",
        "completion": "Here.",
        "answer": "Nowhere.",
        "kind": "fact",
        "histogram": {"edges": [-0.2, -0.1, 0, 0.1, 0.2], "counts": [1, 40, 50, 2]},
        "null_band": [-0.05, 0.05],
        "proponents": [hit(1, 0.19, exact=0.21, planted=True), hit(2, 0.04)],
        "opponents": [hit(1, -0.17, note="a note")],
    }
    return {"title": "A run", "provenance": {"model": "tiny", "rows": 3}, "notes": ["A remark."], "queries": [query]}


def render(folder, metrics=None, details=None):
    (folder / "metrics.json").write_bytes(orjson.dumps(metrics or example_metrics()))
    if details is not None:
        (folder / "report.json").write_bytes(orjson.dumps(details))
    return write_report(folder).read_text(encoding="utf-8")


class Page(HTMLParser):
    """Tags with their attributes, and all text, as a browser would see them."""

    EMPTY = frozenset({"meta", "br", "img", "link", "input"})

    def __init__(self, html):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(html)
        self.close()
        self.text = " ".join("".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)


def assert_inert(html):
    page = Page(html)
    assert not page.open
    assert not {tag for tag, _ in page.tags} & {"script", "img", "iframe", "link", "object", "embed", "base", "form"}
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "srcset", "xlink:href")]
        assert attributes.get("href", "#").startswith("#")
        assert attributes.get("href", "#")[1:] in ["", *identifiers]
    assert "<script" not in html
    assert "url(http" not in html
    assert "@import" not in html
    return page


def test_everything_in_its_order(tmp_path):
    page = assert_inert(render(tmp_path, details=example_details()))
    sections = [attributes["id"] for tag, attributes in page.tags if tag == "h2"]
    assert sections == ["run", "fidelity", "cost", "planted", "queries", "limits", "times"]
    for words in ("gradient-cosine", "0.930", "tfidf: no words", "A remark.", "Nowhere.", "exact +0.210", "a note"):
        assert words in page.text
    assert [tag for tag, _ in page.tags].count("svg") == 3


def test_methods_are_sorted_and_the_ceiling_marked(tmp_path):
    html = render(tmp_path)
    table = html[html.index('id="fidelity"') : html.index("<figure")]
    names = re.findall(r'<th scope="row"><span class="name[^"]*">([^<]*)', table)
    assert names == ["exact", "influcoder", "surface", "bm25", "random"]
    assert table.count('<tr class="ceiling">') == 1
    assert "0.850 to 0.950" in table
    assert "−0.010" in table


def test_both_glyphs_and_the_band(tmp_path):
    html = render(tmp_path, details=example_details())
    assert re.search(r"▲</span> \+0\.190", html)
    assert re.search(r"▼</span> −0\.170", html)
    assert html.count("inside the grey band</span>") == 1
    assert html.count('badge">planted') == 1


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
    for table in ("methods", "planted", "skipped", "timings_s"):
        metrics[table] |= {name + HOSTILE: row for name, row in metrics[table].items()}
    details["provenance"] |= {HOSTILE: {HOSTILE: HOSTILE}}
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
    assert html.count("<details") == 2
    assert "all 1,000 characters" in html


def without(table, *keys):
    return {key: value for key, value in table.items() if key not in keys}


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
    assert "Query by query" not in page.text
    assert "Planted facts" not in page.text or "planted" in metrics


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
    template = resources.files("influcoder.report").joinpath("templates/report.html").read_text()
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
    lit = [one for tag, one in page.tags if tag == "span" and re.match("towards|away", one.get("class", ""))]
    assert [(one["class"], one["title"]) for one in lit] == [
        ("towards3", "+0.200"),
        ("away2", "−0.0900"),
        ("away3", "−0.400"),
        ("towards2", "+0.200"),
    ]
    assert "The re(end)" in page.text
    assert "What it pushes of the completion asked about" in page.text
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
    template = resources.files("influcoder.report").joinpath("templates/report.html").read_text()
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
