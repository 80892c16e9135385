"""Pages of the documentation whose commands are run, one after the other, as a reader would."""

import os
import re
import runpy
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"

Call = Callable[..., tuple[int, str, str]]


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a language on a page, such as "how-to/select.md"."""
    return re.findall(rf"^```{language}\n(.*?)^```", (DOCS / page).read_text(), flags=re.S | re.M)


def commands(page: str) -> list[str]:
    """The page's commands in order, each whole: a continued one on one line, a file that is written with its text."""
    script = "".join(blocks(page, "bash")).replace("\\\n", " ")
    return re.findall(r"^cat > \S+ <<'EOF'\n.*?^EOF$|^[^\n]+$", script, flags=re.S | re.M)


def run(command: str, call: Call) -> tuple[int, str, str]:
    """(status, stdout, stderr) of a command in the present folder.

    Ours, and Python files, run in this process: ten new ones take a minute to import what they need.
    """
    if command.startswith("python3 "):
        runpy.run_path(command.split()[1])
        return 0, "", ""
    if command.startswith("influcoder "):
        return call(*map(os.path.expandvars, shlex.split(command)[1:]))
    finished = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    return finished.returncode, finished.stdout, finished.stderr


def follow(page: str, call: Call) -> str:
    """What all commands of a page print."""
    shown = []
    for command in commands(page):
        status, out, err = run(command, call)
        assert status == 0, f"{command}\n{out}\n{err}"
        shown.append(out)
    return "".join(shown)
