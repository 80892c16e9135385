"""Write docs/reference/cli.md: the help of every command and flag, from the command line itself.

python scripts/write_cli_docs.py
"""

import sys
from pathlib import Path

from influcoder.cli import app

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "cli.md"

INTRODUCTION = """\
# Command line

<!-- Written by scripts/write_cli_docs.py. -->

Results go to standard output, progress and messages to standard error. `--json`, where a command has it, prints
numbers for programs. `influcoder COMMAND --help` prints what stands here; `--debug` anywhere on the line shows the
traceback of an error.

Exit status: 0 done, 1 an error (one line that says what happened, where, and what to do), 2 a wrong command line,
130 or 143 stopped by a signal.

"""


def page() -> str:
    """The whole page."""
    sys.argv[0] = "influcoder"  # how the usage lines name the program, whoever runs this
    return INTRODUCTION + app.generate_docs(output_format="markdown", heading_level=2).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
