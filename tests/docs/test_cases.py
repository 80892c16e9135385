"""The tests that docs/cases.md names are there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_test_that_holds_a_case_is_there():
    page = (ROOT / "docs" / "cases.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| case")]
    named = {name for row in rows for name in re.findall(r"`(test_\w+)`", row)}
    known = {
        name for path in ROOT.glob("tests/**/test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    assert len(rows) > 30
    assert named - known == set()
    files = {one for row in rows for one in re.findall(r"`((?:tests/\S+/)?test_\w+\.py)`", row)}
    assert all(list(ROOT.glob(f"**/{one}")) for one in files)
    assert all(re.search(r"test_\w+|models\.md", row) for row in rows)
