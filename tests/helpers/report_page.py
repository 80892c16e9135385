"""A page made from a small run, and how a browser would read it."""

from html.parser import HTMLParser

import orjson

from influcoder.report.page import write_report

METHODS = {"influcoder": 0.6, "surface": 0.2, "random": -0.01, "exact": 0.9, "bm25": 0.1}
CONDITION = {"loss": 4.25, "changed": 0.875, "changed_interval": [0.75, 1.0], "loss_change": 3.0}
CONDITION |= {"loss_change_interval": [2.5, 3.5]}
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
        "proof": {"found": 0.875, "random": 0.125},
        "conditions": {
            "all": {"loss": 1.25, "loss_interval": [1.0, 1.5], "changed_by_seed": None},
            "found": CONDITION,
            "random": CONDITION | {"changed": 0.125, "changed_interval": None, "loss_change": -0.25},
        },
        "removed": 24,
        "certified": {"sampled": 200, "confidence": 0.95, "at_most": 0.015, "worst": 0.03},
        "says_what_is_planted": 0.75,
        "planted": {"influcoder": {"recall_at_10": 0.7, "mrr": 0.8}},
        "skipped": {"tfidf": "no words"},
        "timings_s": {"teacher": 12.5, "total": 14.5},
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
        "proof": {"all": "Nowhere.", "found": "Anywhere.", "random": "nowhere."},
        "expected_agreement": {"rho": 0.5, "low": 0.25, "high": 0.75},
        "certified": {"sampled": 200, "above": 1, "others": 940, "at_most": 0.0235, "confidence": 0.95},
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
        if tag in ("td", "th", "small"):
            self.words.append(" ")

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
    assert "default-src 'none'" in html
    return page


def sections(page):
    """The ids of the headings, in their order."""
    return [attributes["id"] for tag, attributes in page.tags if tag == "h2"]


def without(table, *keys):
    return {key: value for key, value in table.items() if key not in keys}
