"""The command line as a user runs it, and what a refusal looks like."""

import os
import re

from helpers import forks


def run(*words, cwd=None, width=200):
    return forks.run(forks.command, *map(str, words), cwd=cwd, env=os.environ | {"COLUMNS": str(width)})


def succeed(*words, **options):
    done = run(*words, **options)
    assert done.returncode == 0, done.stderr
    return done


def without_bars(err):
    """What a verb says on stderr beside the model loader's own progress bars."""
    return [line for line in re.split(r"[\r\n]+", err) if line.strip() and "%|" not in line]


def refused(result, *told):
    status, out, err = result
    assert status == 1
    assert out == ""
    lines = without_bars(err)
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    for text in told:
        assert text in lines[0]
