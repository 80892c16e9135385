"""What an audit found, for the terminal and as a page that stands alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from influcoder.report.console import Console
from influcoder.report.visible import one_line, visible
from influcoder.store.files import atomic_write

VERDICTS = {
    "verified": "The chain is whole: every part was made from the one before it, and no byte has changed.",
    "broken": "The chain is broken: something is not what was recorded.",
    "incomplete": "The chain is incomplete: what is here is sound, but a part that it was made from is not here.",
}
LONGEST = 2000
"""characters of a line"""
MARKS = {"verified": "✓", "broken": "✗", "missing": "?"}


def print_audit(found: Mapping[str, Any]) -> None:
    """The verdict, what is wrong, and what follows."""
    console = Console()
    console.print(Text(VERDICTS[found["verdict"]], style="bold"))
    if "signature" in found:
        console.print(Text(f"Signature: {found['signature']}. Files are compared with those of the audit."))
    for line in found.get("changed_since", []):
        console.print(Text(f"✗ {one_line(line, LONGEST)}"), soft_wrap=True)
    for one in found["findings"]:
        detail = f" - {one_line(one['detail'], LONGEST)}" if one["detail"] else ""
        console.print(Text(f"{MARKS[one['status']]} {one['part']}: {one['what']}{detail}"), soft_wrap=True)
    for title, name in (("Can be concluded:", "can"), ("Cannot be concluded:", "cannot")):
        console.print(Text(f"\n{title}", style="bold"))
        for sentence in found[name]:
            console.print(Text(f"- {one_line(sentence, LONGEST)}"), soft_wrap=True)


def write_page(found: Mapping[str, Any], folder: Path) -> None:
    """Write audit.html: no script, nothing loaded from elsewhere; texts are escaped and made visible."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("influcoder.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["shown"] = visible
    page = environment.get_template("audit.html").render(found=found, verdict=VERDICTS[found["verdict"]], marks=MARKS)
    atomic_write(folder / "audit.html", page.encode())
