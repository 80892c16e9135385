"""docs/reference/cli.md is what the command line says of itself, and names every command and flag."""

import runpy
from pathlib import Path

import pytest

from influcoder import cli

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")


def commands(app, name=()):
    for word in app:
        if not word.startswith("-"):
            yield (*name, word), app[word]
            yield from commands(app[word], (*name, word))


def test_the_page_is_up_to_date():
    assert runpy.run_path(str(ROOT / "scripts" / "write_cli_docs.py"))["page"]() == PAGE, (
        "run: python scripts/write_cli_docs.py"
    )


@pytest.mark.parametrize("name", [" ".join(name) for name, _ in commands(cli.app)])
def test_every_flag_stands_on_the_page(name):
    app = cli.app
    for word in name.split():
        app = app[word]
    assert f"influcoder {name}" in PAGE
    if app.default_command:
        flags = [flag for each in app.assemble_argument_collection() if each.show for flag in each.names]
        assert [flag for flag in flags if f"{flag}" not in PAGE] == []
