"""The findings of an audit, for the terminal and as a page that needs no other file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from influcoder.report.console import Console
from influcoder.report.environment import environment
from influcoder.report.visible import one_line
from influcoder.store.files import atomic_write

VERDICTS = {
    "verified": "The chain is whole: every part was made from the one before it, and no byte has changed.",
    "broken": "The chain is broken: something is not what was recorded.",
    "incomplete": "The chain is incomplete: what is here is sound, but a part that it was made from is missing.",
}
LONGEST = 2000
"""characters of a line"""
MARKS = {"verified": "✓", "broken": "✗", "missing": "?"}


def print_audit(record: Mapping[str, Any]) -> None:
    """The verdict, what is wrong, and what can be concluded."""
    console = Console()
    console.print(Text(VERDICTS[record["verdict"]], style="bold"))
    if "signature" in record:
        console.print(Text(f"Signature: {record['signature']}. Files are compared with those of the audit."))
    for line in record.get("changed_since", []):
        console.print(Text(f"✗ {one_line(line, LONGEST)}"), soft_wrap=True)
    for finding in record["findings"]:
        detail = f" - {one_line(finding['detail'], LONGEST)}" if finding["detail"] else ""
        console.print(Text(f"{MARKS[finding['status']]} {finding['part']}: {finding['what']}{detail}"), soft_wrap=True)
    for title, name in (("Can be concluded:", "can"), ("Cannot be concluded:", "cannot")):
        console.print(Text(f"\n{title}", style="bold"))
        for sentence in record[name]:
            console.print(Text(f"- {one_line(sentence, LONGEST)}"), soft_wrap=True)


def write_page(record: Mapping[str, Any], folder: Path) -> None:
    """Write audit.html: no script, nothing loaded from elsewhere; texts are escaped and made visible."""
    template = environment("influcoder.report").get_template("audit.html")
    page = template.render(record=record, verdict=VERDICTS[record["verdict"]], marks=MARKS)
    atomic_write(folder / "audit.html", page.encode())
