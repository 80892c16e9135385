"""The page on drift: its commands, run one after the other in an empty folder; its workflow and nightly script."""

import re
import runpy
import shlex
import subprocess
from pathlib import Path

import yaml

from influcoder.cli import app
from influcoder.demo.world import assets
from influcoder.indexes.index import Index
from influcoder.student.encoder import InfluenceEncoder

PAGE = (Path(__file__).parent.parent.parent / "docs/how-to/keep-an-encoder-true.md").read_text()
STALE = "|| status=$?"
"""after a command that is to end with status 3, which the next line tests"""


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.S | re.M)


def commands():
    """The page's commands in order, each in a line; a file that is written is (its name, its text)."""
    script = "".join(blocks("bash")).replace("\\\n", " ")
    for name, text, line in re.findall(r"cat > (\S+) <<'EOF'\n(.*?)^EOF$|^([^\n]+)$", script, flags=re.S | re.M):
        yield from [(name, text)] if name else line.splitlines()


def test_the_story_runs(tmp_path, monkeypatch, call):
    """In this process: a new one for each command would take the time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DECODER", str(assets() / "decoder"))
    shown = []
    for command in commands():
        if isinstance(command, tuple):
            Path(command[0]).write_text(command[1])
        elif command.startswith("python3 "):
            runpy.run_path(command.split()[1])
        elif command.startswith("influcoder "):
            words = shlex.split(command.replace(STALE, "").replace("$DECODER", str(assets() / "decoder")))
            status, out, err = call(*words[1:])
            assert status == (3 if STALE in command else 0), err
            shown.append(" ".join(out.split()))
        else:
            assert command in ("status=0", 'test "$status" = 3')
    told = [one for one in shown if "on decoder later: stale." in one]
    assert len(told) == 2  # drift, and the search that follows
    assert "Probe: 36 gradients" in told[0]
    refreshed = InfluenceEncoder.load("encoder-2")
    assert Index("index").encoder.fingerprint == refreshed.fingerprint
    assert refreshed.provenance.student.refresh_gradients <= 0.2 * (60 + 150)
    assert subprocess.run(["sh", "-n", "keep-true.sh"], check=False).returncode == 0


def test_the_workflow_and_the_nightly_script_call_what_there_is():
    (workflow,) = blocks("yaml")
    steps = yaml.safe_load(workflow)["jobs"]["drift"]["steps"]
    nightly = dict(one for one in commands() if isinstance(one, tuple))["keep-true.sh"]
    lines = [step["run"] for step in steps if "run" in step] + nightly.splitlines()
    ours = [line.strip().removesuffix("&&") for line in lines if line.strip().startswith("influcoder ")]
    assert len(ours) == 4
    for line in ours:
        app.parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)
