"""The public surface: names, import time, and what the source never does."""

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import influcoder
from influcoder import TeacherSettings, cli

SOURCE = Path(influcoder.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
PUBLIC = [
    "Client",
    "Decoder",
    "Example",
    "FeaturesFolder",
    "Hit",
    "Hits",
    "Index",
    "InflucoderError",
    "InfluenceCallback",
    "InfluenceEncoder",
    "Sample",
    "Selection",
    "TeacherSettings",
    "distill",
    "distill_paper",
    "distill_static",
    "drift",
    "evaluate",
    "features",
    "index",
    "make_teacher",
    "prove",
    "read_examples",
    "score",
    "search",
    "select",
    "trace",
]


def test_public_names_are_these():
    assert influcoder.__all__ == PUBLIC == sorted(PUBLIC)


SHELL = {
    *("json", "output", "shard", "ray", "worker_timeout", "verify_hashes"),
    *("prompt_column", "completion_column", "text_column", "id_column", "on_error", "max_reject_rate"),
    *("pairs", "loss", "trust_remote_code"),
    *("add", "remove", "refresh"),
}
"""flags of printing, of launchers, of `read_examples`, of `Decoder.load`, of `Index.add` and `Index.remove`"""
VERBS = ["distill", "drift", "evaluate", "features", "index", "prove", "score", "search", "select", "trace"]


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_there_and_documented(name):
    found = getattr(influcoder, name)
    assert found.__module__.startswith("influcoder.")
    assert found.__doc__


def test_public_names_are_few():
    assert len(PUBLIC) <= 28
    assert set(PUBLIC) <= set(dir(influcoder))


def test_no_submodule_takes_the_place_of_a_public_name():
    """Importing influcoder.NAME sets influcoder.NAME to the module, whatever was there."""
    modules = [one.name for one in pkgutil.walk_packages(influcoder.__path__, "influcoder.")]
    assert not {name.split(".")[1] for name in modules} & set(PUBLIC)
    for name in modules:
        if name != "influcoder.__main__":
            importlib.import_module(name)
    assert all(inspect.isfunction(getattr(influcoder, verb)) for verb in VERBS)


@pytest.mark.parametrize("name", [name for name in PUBLIC if name.islower()])
def test_functions_have_an_example(name):
    assert ">>>" in getattr(influcoder, name).__doc__


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_name_their_arguments(verb):
    found = getattr(influcoder, verb)
    told = found.__doc__.partition("Args:")[2]
    assert [one for one in inspect.signature(found).parameters if not re.search(rf"\b{one}\b.*:", told)] == []


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_are_those_of_the_command_line(verb):
    """Whatever a flag sets, an argument sets, but for what speaks of the command line itself."""
    flags = {one.name[2:].replace("-", "_") for one in cli.app[verb].assemble_argument_collection()} - {""}
    arguments = set(inspect.signature(getattr(influcoder, verb)).parameters)
    teaching = {one.name for one in fields(TeacherSettings)} if verb == "features" else set()
    saving = (
        {"output_dir", "overwrite", "format", "earlier", "mask_tokens"} if verb == "select" else set()
    )  # Selection.load and save
    assert flags - arguments - teaching - saving - SHELL == set()


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
