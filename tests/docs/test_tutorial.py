"""The tutorial's commands, run one after the other in an empty folder as a reader would."""

from pathlib import Path

import pytest

from helpers.pages import blocks, follow
from influcoder.demo.world import assets

PAGE = "tutorial.md"


def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call) -> None:
    assert len(blocks(PAGE, "bash")) >= 8
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DECODER", str(assets() / "decoder"))
    shown = follow(PAGE, call)
    assert (tmp_path / "evaluation/report.html").is_file()
    assert "Expected agreement" in shown
