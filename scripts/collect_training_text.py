"""Turn the documentation packages of a Debian system into plain text for the demo decoder.

    apt-get download python3.11-doc postgresql-doc-15 git-doc debian-handbook debian-reference-en \
        developers-reference gnome-user-docs dict-gcide dict-wn dict-foldoc debian-faq
    for package in *.deb; do dpkg -x "$package" unpacked; done
    python scripts/collect_training_text.py unpacked text

All of it is free documentation or prose: the Python (PSF licence) and PostgreSQL (PostgreSQL licence)
manuals, git's (GPL-2), the Debian books (GPL-2+, CC BY-SA), GNOME's user guides (CC BY-SA), Webster's dictionary in the
GNU edition (GPL), WordNet (its own permissive licence) and FOLDOC (GFDL).
"""

import gzip
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

BLOCKS = {"p", "div", "li", "dt", "dd", "tr", "pre", "br", "h1", "h2", "h3", "h4", "title", "note", "item"}
SKIPPED = {"script", "style", "nav", "head", "svg", "info"}


class Text(HTMLParser):
    """The readable text of an HTML or Mallard page, a line a block."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.skipping = 0

    def handle_starttag(self, tag, attributes):
        self.skipping += tag in SKIPPED
        if tag in BLOCKS:
            self.parts.append("\n")

    def handle_endtag(self, tag):
        self.skipping = max(0, self.skipping - (tag in SKIPPED))
        if tag in BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data):
        if not self.skipping:
            self.parts.append(data)


def page_text(path: Path) -> str:
    parser = Text()
    parser.feed(path.read_text(encoding="utf-8", errors="ignore"))
    return tidy("".join(parser.parts))


def tidy(text: str) -> str:
    text = re.sub(r"[ \t]+", " ", text.replace("\r", "").replace("¶", ""))
    return re.sub(r"\n\s*\n+", "\n", text).strip()


def documents(root: Path):
    """(source, text) of every document below an unpacked Debian root."""
    share = root / "usr/share"
    pages = {
        "python": (share / "doc/python3.11/html").rglob("*.html"),
        "postgresql": (share / "doc/postgresql-doc-15").rglob("*.html"),
        "git": (share / "doc/git/html").rglob("*.html"),
        "debian-handbook": (share / "doc/debian-handbook/html/en-US").rglob("*.html"),
        "debian-reference": (share / "debian-reference").rglob("*.en.html"),
        "developers-reference": (share / "developers-reference").glob("*.html"),
        "debian-faq": (share / "doc/debian/FAQ").rglob("*.en.html"),
        "gnome": (share / "help/C").rglob("*.page"),
    }
    for source, paths in pages.items():
        for path in sorted(paths):
            if not re.search(r"genindex|searchindex|py-modindex|contents\.html|bookindex|release-", path.name):
                yield source, page_text(path)
    for source in ("wn", "gcide", "foldoc"):
        with gzip.open(share / f"dictd/{source}.dict.dz", "rt", encoding="utf-8", errors="ignore") as entries:
            text = entries.read()
        lines = [re.sub(r"\s+", " ", entry) for entry in re.split(r"\n(?=\S)", text)]
        lines = [line for line in lines if len(line) > 60]
        for start in range(0, len(lines), 40):
            yield source, "\n".join(lines[start : start + 40])


def main() -> None:
    root, destination = Path(sys.argv[1]), Path(sys.argv[2])
    destination.mkdir(parents=True, exist_ok=True)
    sizes: dict[str, int] = {}
    seen: set[str] = set()
    for source, text in documents(root):
        if len(text) < 200 or text in seen:
            continue
        seen.add(text)
        with open(destination / f"{source}.txt", "a" if source in sizes else "w", encoding="utf-8") as out:
            out.write(text + "\n\f\n")
        sizes[source] = sizes.get(source, 0) + len(text)
    print(sizes)


if __name__ == "__main__":
    main()
