"""The public surface: names, import time, and what the source never does."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import influcoder

SOURCE = Path(influcoder.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
PUBLIC = [
    "Checkpoint",
    "Decoder",
    "Example",
    "GradientTeacher",
    "Hit",
    "Index",
    "InflucoderError",
    "InfluenceEncoder",
    "Sample",
    "Selection",
    "TeacherSettings",
    "distill_paper",
    "distill_static",
    "evaluate",
    "make_teacher",
    "read_examples",
    "search",
]


def test_public_names_are_these():
    assert influcoder.__all__ == PUBLIC == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_there_and_documented(name):
    found = getattr(influcoder, name)
    assert found.__module__.startswith("influcoder.")
    assert found.__doc__


def test_star_import_gives_the_public_names():
    names = {}
    exec("from influcoder import *", names)
    assert set(names) - {"__builtins__"} == set(PUBLIC)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="'influcoder' has no attribute 'nonsense'"):
        _ = influcoder.nonsense


def test_every_error_is_one_of_ours():
    errors = importlib.import_module("influcoder.errors")
    classes = [one for one in vars(errors).values() if isinstance(one, type) and one.__module__ == errors.__name__]
    assert len(classes) > 5
    assert all(issubclass(one, influcoder.InflucoderError) for one in classes)


OPTIONS = {"capture_output": True, "text": True, "check": True}


def loaded(code):
    """The modules that a program loads beyond those of an empty one."""
    found = [
        subprocess.run([sys.executable, "-c", f"import sys\n{one}\nprint(*sys.modules, file=sys.stderr)"], **OPTIONS)
        for one in (code, "pass")
    ]
    return set(found[0].stderr.splitlines()[-1].split()) - set(found[1].stderr.split())


def test_import_loads_nothing_else():
    names = loaded("import influcoder")
    assert {name for name in names if name.split(".")[0] not in sys.stdlib_module_names} == {
        "influcoder",
        "influcoder.version",
    }
    assert len(names) < 50, sorted(names)


@pytest.mark.parametrize("words", [["--help"], ["search", "--help"], ["--version"]])
def test_help_loads_what_it_prints_with_alone(words):
    names = loaded(f"""
sys.argv = ["influcoder", *{words!r}]
from influcoder.cli import main
try:
    main()
except SystemExit:
    pass
""")
    printing = {"attr", "attrs", "cyclopts", "docstring_parser", "rich", "typing_extensions"}
    if words[0] not in ("--help", "--version"):  # the flags' descriptions are Markdown
        printing |= {"markdown_it", "mdurl", "pygments"}
    assert {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) <= printing | {"influcoder"}


@pytest.mark.parametrize(
    "forbidden",
    [
        r"\bimport pickle|\bpickle\.|from pickle",
        r"torch\.load\((?!.*weights_only=True)",
        r"trust_remote_code\s*=\s*True",
        r"\beval\(|\bexec\(",
        r"allow_pickle\s*=\s*True",
        r"joblib",
        r"shell\s*=\s*True",
        r"yaml\.load\(",
    ],
)
def test_source_runs_no_foreign_code(forbidden):
    # `model.eval()` is no eval.
    found = [
        path.name for path in FILES if re.search(forbidden, path.read_text(encoding="utf-8").replace(".eval()", ""))
    ]
    assert found == []


def test_package_is_marked_as_typed():
    assert (SOURCE / "py.typed").exists()


def test_version_is_a_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+", influcoder.__version__)
