"""The folder in which the examples of docstrings run: the files that they name lie there."""

import os
import shutil
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
from _pytest.doctest import DoctestItem

NAMING_FILES = (
    "influcoder.api",
    "influcoder.verbs",
    "influcoder.student",
    "influcoder.teachers.make",
    "influcoder.indexes.index",
    "influcoder.live.callback",
)
"""whose examples do"""
WRITTEN = {"influcoder.api.features": "features", "influcoder.api.distill": "encoder", "influcoder.api.index": "index"}
"""what an example writes itself"""


@pytest.fixture(scope="session")
def worked_through(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny decoder, queries and pool, and everything up to their index."""
    import influcoder
    from helpers.sentences import as_rows, sentences, write_jsonl  # type: ignore[import-not-found]
    from helpers.tiny import save_decoder, tiny_tokenizer  # type: ignore[import-not-found]

    folder = tmp_path_factory.mktemp("examples")
    save_decoder(folder / "decoder", tiny_tokenizer())
    for name, count, seed in (("queries", 30, 1), ("pool", 60, 2), ("test-queries", 10, 3), ("test-pool", 20, 4)):
        write_jsonl(folder / f"{name}.jsonl", as_rows(sentences(count, seed, name)))
    for kind in ("", "test-"):
        queries, pool = (folder / f"{kind}{side}.jsonl" for side in ("queries", "pool"))
        influcoder.features(folder / "decoder", queries, pool, folder / f"{kind}features", rank=4, width=512)
    influcoder.distill(folder / "features", folder / "encoder")
    influcoder.index(folder / "encoder", folder / "pool.jsonl", folder / "index")
    return folder


@pytest.fixture(autouse=True)
def _where_the_examples_run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = request.node.name
    if isinstance(request.node, DoctestItem) and name.startswith(NAMING_FILES):
        folder = shutil.copytree(request.getfixturevalue("worked_through"), tmp_path / "here")
        if name in WRITTEN:
            shutil.rmtree(folder / WRITTEN[name])
        monkeypatch.chdir(folder)
