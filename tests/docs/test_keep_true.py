"""The page on drift: its commands, run one after the other in an empty folder; its workflow and nightly script."""

import shlex
import subprocess

import yaml

from helpers.pages import blocks, commands, run
from influcoder.cli import app
from influcoder.demo.world import assets
from influcoder.indexes.index import Index
from influcoder.student.encoder import InfluenceEncoder

PAGE = "how-to/keep-an-encoder-true.md"
STALE = "|| status=$?"
"""after a command that is to end with status 3, which the next line tests"""


def test_the_story_runs(tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DECODER", str(assets() / "decoder"))
    shown = []
    for command in commands(PAGE):
        if command in ("status=0", 'test "$status" = 3'):
            continue
        status, out, err = run(command.replace(STALE, ""), call)
        assert status == (3 if STALE in command else 0), err
        shown.append(" ".join(out.split()))
    stale = [output for output in shown if "on decoder later: stale." in output]
    assert len(stale) == 2  # drift, and the search that follows
    assert "Probe: 57 gradients" in stale[0]
    refreshed = InfluenceEncoder.load("encoder-2")
    assert Index("index").encoder.fingerprint == refreshed.fingerprint
    assert refreshed.provenance.student.refresh_gradients <= 0.2 * (60 + 150)
    assert subprocess.run(["sh", "-n", "keep-true.sh"], check=False).returncode == 0


def test_the_workflow_and_the_nightly_script_call_what_there_is():
    (workflow,) = blocks(PAGE, "yaml")
    steps = yaml.safe_load(workflow)["jobs"]["drift"]["steps"]
    (nightly,) = [command for command in commands(PAGE) if command.startswith("cat > keep-true.sh")]
    lines = [step["run"] for step in steps if "run" in step] + nightly.splitlines()
    ours = [line.strip().removesuffix("&&") for line in lines if line.strip().startswith("influcoder ")]
    assert len(ours) == 4
    for line in ours:
        app.parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)
