"""Packages that only some verbs need: what is said, and what goes on, where they are not installed."""

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import influcoder
from helpers.commands import refused
from helpers.sentences import as_rows, sentences, write_jsonl
from helpers.tiny import save_decoder
from influcoder.errors import MissingDependency
from influcoder.evaluation.scorers import word_scorers
from influcoder.extras import EXTRAS, is_installed, optional, require

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SOURCE = Path(influcoder.__file__).parent
NAMED = {"sklearn": "scikit-learn"}


@pytest.fixture
def missing(monkeypatch):
    """Makes packages look as if they were not installed."""

    def block(*packages):
        for name in [one for one in sys.modules if one.split(".")[0] in packages]:
            monkeypatch.delitem(sys.modules, name)
        for package in packages:
            monkeypatch.setitem(sys.modules, package, None)

    return block


@pytest.mark.parametrize(("package", "extra"), EXTRAS.items())
def test_the_extra_that_is_named_brings_the_package(package, extra, missing):
    named = NAMED.get(package, package)
    assert any(one.startswith(named) for one in PROJECT["optional-dependencies"][extra])
    assert not any(one.startswith(named) for one in PROJECT["dependencies"])
    assert extra in PROJECT["optional-dependencies"]["dev"][0]
    missing(package)
    assert not is_installed(package)
    with pytest.raises(MissingDependency, match=rf"not installed: {package}\. .*pip install 'influcoder\[{extra}\]'"):
        optional(f"{package}.part")


def test_all_that_is_missing_is_named_at_once(missing):
    missing("bm25s", "matplotlib")
    with pytest.raises(MissingDependency, match=r"bm25s, matplotlib\. .*'influcoder\[eval,report\]'"):
        require("bm25s", "orjson", "matplotlib")


def test_benchmarks_say_so_at_their_start(missing, call, tmp_path, tokenizer):
    save_decoder(tmp_path / "decoder", tokenizer)
    missing("bm25s", "matplotlib")
    folder = tmp_path / "causal"
    result = call("benchmark", "causal", "--decoder", tmp_path / "decoder", "--quick", "--output-dir", folder)
    refused(result, "not installed: bm25s, matplotlib. Install with: pip install 'influcoder[eval,report]'")


def test_report_says_so(missing, call, tmp_path):
    missing("matplotlib")
    refused(call("report", tmp_path), "pip install 'influcoder[report]'")


def test_no_other_verb_imports_them_by_itself():
    """Elsewhere than in benchmarks each is imported by `optional`, or after it was looked for."""
    looked_for = {"report/figures.py", "indexes/lance.py"}
    found = set()
    for path in SOURCE.rglob("*.py"):
        name = path.relative_to(SOURCE).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            roots = [one.name for one in node.names] if isinstance(node, ast.Import) else [module or ""]
            if EXTRAS.keys() & {root.split(".")[0] for root in roots} and not name.startswith(
                ("benchmarks/", "serve/")
            ):
                found.add(name)
    assert found == looked_for


def test_a_rival_without_its_package_is_left_out(missing):
    every = {scorer.name for scorer in word_scorers(0)[0]}
    missing("bm25s")
    scorers, skipped = word_scorers(0)
    assert skipped == {"bm25": "pip install 'influcoder[eval]'"}
    assert {scorer.name for scorer in scorers} == every - {"bm25"}


FOUR_VERBS = """
import sys
for package in ("bm25s", "lancedb", "matplotlib", "ray"):
    sys.modules[package] = None
from influcoder import cli
for line in sys.stdin.read().splitlines():
    sys.argv = ["influcoder", *line.split()]
    try:
        cli.main()
    except SystemExit as end:
        if end.code:
            raise
"""


def test_features_distill_index_search_and_evaluate_need_no_extra(tmp_path, tokenizer):
    save_decoder(tmp_path / "decoder", tokenizer)
    for name, number in {"q": 30, "p": 60, "test-q": 15, "test-p": 30}.items():
        write_jsonl(tmp_path / f"{name}.jsonl", as_rows(sentences(number, len(name) + number, name)))
    features = "features --decoder decoder --rank 4 --width 512 --precision fp32"
    lines = [
        f"{features} --queries q.jsonl --pool p.jsonl --output-dir features",
        f"{features} --queries test-q.jsonl --pool test-p.jsonl --output-dir test",
        "distill --features features --output-dir encoder",
        "index --encoder encoder --pool p.jsonl --output-dir index",
        "search --index index --queries q.jsonl",
        "evaluate --encoder encoder --features test --output-dir evaluated",
    ]
    options = {"cwd": tmp_path, "capture_output": True, "text": True, "env": os.environ | {"COLUMNS": "200"}}
    done = subprocess.run([sys.executable, "-c", FOUR_VERBS], input="\n".join(lines), **options)
    assert done.returncode == 0, done.stderr
    assert "not run: bm25 (pip install 'influcoder[eval]')" in done.stdout
    assert "not drawn: the figures of report.html (pip install 'influcoder[report]')" in done.stdout
    page = (tmp_path / "evaluated" / "report.html").read_text(encoding="utf-8")
    assert "<svg" not in page
    assert "matplotlib is not installed. pip install" in page
