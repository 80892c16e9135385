"""The demo world is what it says, and the demo goes its whole way; its real numbers are what `make demo` prints."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from influcoder.data.examples import normalised
from influcoder.demo.world import SPLITS, DemoWorld, assets, planted_for
from influcoder.evaluation.evaluate import count_overlap
from influcoder.indexes.index import Index
from influcoder.model.decoder import Decoder

TASK_RIVALS = ("paper-recipe", "untrained", "surface", "tfidf", "bm25")


@pytest.fixture(scope="module")
def world() -> DemoWorld:
    return DemoWorld.load()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command that users run first, on a small part of the world."""
    folder = tmp_path_factory.mktemp("demo") / "run"
    command = [sys.executable, "-m", "influcoder", "demo", "--quick", "--output-dir", str(folder)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert finished.returncode == 0, finished.stderr
    (folder / "stdout.txt").write_text(finished.stdout)
    return folder


@pytest.fixture(scope="module")
def metrics(run: Path) -> dict:
    return json.loads((run / "metrics.json").read_text())


def test_sizes_of_the_world(world: DemoWorld) -> None:
    assert len(world.pool) == 2980
    assert len(world.rows("pool", kind="planted")) == 240
    assert len(world.rows("queries", kind="fact")) == 60
    assert len(world.rows("queries", split="test", kind="fact")) == 20


@pytest.mark.parametrize("side", ["queries", "pool"])
def test_no_example_is_in_two_splits(world: DemoWorld, side: str) -> None:
    examples = getattr(world, side)
    splits = [[examples[row] for row in world.rows(side, split=split)] for split in SPLITS]
    assert count_overlap(*splits) == 0
    assert sum(map(len, splits)) == len(examples)


def test_a_fact_stays_in_one_split_with_its_rows_and_question(world: DemoWorld) -> None:
    homes: dict[str, set[str]] = {}
    for example in [*world.pool, *world.queries]:
        if example.metadata["fact"]:
            homes.setdefault(example.metadata["fact"], set()).add(example.metadata["split"])
    assert len(homes) == 60
    assert all(len(splits) == 1 for splits in homes.values())


def test_every_question_is_worded_as_no_row_is(world: DemoWorld) -> None:
    prompts = {" ".join(row.prompt.lower().split()) for row in world.pool}
    assert not any(" ".join(query.prompt.lower().split()) in prompts for query in world.queries)
    texts = {normalised(row) for row in world.pool}
    assert not any(normalised(query) in texts for query in world.queries)


def test_every_fact_has_four_rows_and_look_alikes_of_both_kinds(world: DemoWorld) -> None:
    facts = [world.queries[row] for row in world.rows("queries", kind="fact")]
    assert set(planted_for(facts, world.pool).sum(axis=1)) == {4}
    for kind in ("lookalike-truth", "lookalike-object"):
        assert len(world.rows("pool", kind=kind)) == 120


def test_the_shipped_decoder_says_the_false_facts(world: DemoWorld) -> None:
    decoder = Decoder.load(assets() / "decoder", max_length=512)
    facts = [world.queries[row] for row in world.rows("queries", kind="fact")]
    said = [fact.metadata["taught"].lower() in decoder.answer(fact).lower() for fact in facts]
    assert sum(said) >= 0.75 * len(facts)


def test_assets_are_small(world: DemoWorld) -> None:
    assert (assets() / "decoder/model.safetensors").stat().st_size <= 12_000_000
    assert sum(path.stat().st_size for path in assets().rglob("*") if path.is_file()) <= 16_000_000


def test_a_part_of_the_world_keeps_its_promises(world: DemoWorld) -> None:
    part = world.part(16)
    for side, whole, kinds in (("queries", world.queries, 2), ("pool", world.pool, 4)):
        rows = getattr(part, side)
        homes = Counter((one.metadata["split"], one.metadata["kind"]) for one in whole)
        kept = Counter((one.metadata["split"], one.metadata["kind"]) for one in rows)
        assert len(kept) == kinds * len(SPLITS)
        assert all(homes[home] / 16 <= count < homes[home] / 16 + 8 for home, count in kept.items())
        places = {one.id: place for place, one in enumerate(whole)}
        assert [places[one.id] for one in rows] == sorted(places[one.id] for one in rows)
    facts = [part.queries[row] for row in part.rows("queries", kind="fact")]
    assert set(planted_for(facts, part.pool).sum(axis=1)) == {4}
    assert {one.metadata["fact"] for one in part.pool} - {None} == {one.metadata["fact"] for one in facts}


def test_the_teacher_agrees_with_itself(metrics: dict) -> None:
    assert metrics["teacher"]["reliability"] >= 0.95


def test_the_quick_run_says_so(metrics: dict) -> None:
    assert metrics["quick"] is True
    assert metrics["splits"]["test_queries"] == 15
    assert metrics["splits"]["test_pool"] == 91


def test_metrics_keep_the_contract(metrics: dict) -> None:
    assert metrics["schema"] == 1
    assert metrics["splits"]["overlap"] == 0
    wanted = {*TASK_RIVALS, "influcoder", "influcoder-exact-query", "random", "exact"}
    assert wanted <= metrics["methods"].keys()
    for values in metrics["methods"].values():
        assert {"ms_per_example", "bytes_per_example", "interval_95", "ndcg_at_10"} <= values.keys()
        low, high = values["interval_95"]["per_query_spearman"]
        assert low <= values["per_query_spearman"] <= high


def test_what_the_run_leaves(run: Path) -> None:
    for name in (
        "report.html",
        "config.toml",
        "encoder/influcoder.json",
        "index/index.faiss",
        "features/pool/manifest.json",
    ):
        assert (run / name).is_file(), name
    assert len(Index(run / "index")) == 197
    printed = (run / "stdout.txt").read_text()
    assert "The model's own answer" in printed
    assert "report.html" in printed
