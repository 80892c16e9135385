"""docs/results.md is what its script writes from the records in docs/runs."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_is_of_the_records():
    script = runpy.run_path(str(ROOT / "scripts" / "write_results.py"))
    assert (ROOT / "docs" / "results.md").read_text(encoding="utf-8") == script["page"]()
