"""The demo's world, its decoder, and the command on a small part of it."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.commands import succeed
from influcoder.data.examples import normalised
from influcoder.data.reading import read_examples
from influcoder.demo.parts import MAX_LENGTH, TRAINING
from influcoder.demo.world import SPLITS, DemoWorld, assets, planted_for
from influcoder.evaluation.evaluate import count_overlap
from influcoder.evaluation.scorers import Bm25, Tfidf
from influcoder.indexes.index import Index
from influcoder.maths.metrics import retrieval
from influcoder.model.decoder import Decoder
from influcoder.model.finetune import finetune
from influcoder.verbs.search import search

TASK_RIVALS = ("paper-recipe", "untrained", "surface", "tfidf", "bm25")


@pytest.fixture(scope="module")
def world() -> DemoWorld:
    return DemoWorld.load()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command that users run first, on a small part of the world."""
    folder = tmp_path_factory.mktemp("demo") / "run"
    finished = succeed("demo", "--quick", "--output-dir", folder, width=80)
    (folder / "stdout.txt").write_text(finished.stdout)
    return folder


@pytest.fixture(scope="module")
def metrics(run: Path) -> dict:
    return json.loads((run / "metrics.json").read_text())


def test_the_explorer_is_given_the_model_that_answered(run: Path) -> None:
    questions = read_examples(run / "questions.jsonl")
    trained = Decoder.load(run / "trained", max_length=MAX_LENGTH)
    assert trained.answers(questions) == [one.completion for one in questions]


def test_the_index_alone(call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--index-only goes no further than to what is served, and says how."""
    folders = []
    monkeypatch.setattr("influcoder.demo.run.prepare", lambda folder, **given: folders.append(folder))
    status, out, _ = call("demo", "--index-only", "--output-dir", tmp_path / "demo")
    assert status == 0
    assert folders == [tmp_path / "demo"]
    assert f"--answers-from {tmp_path / 'demo/trained'} --queries" in out
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == ["config.toml"]


def test_sizes_of_the_world(world: DemoWorld) -> None:
    assert len(world.pool) == 604
    assert Counter(row.metadata["kind"] for row in world.pool) == {
        "planted": 216,
        "correct": 36,
        "lookalike": 288,
        "same-wording": 64,
    }
    assert len(world.rows("queries", split="test", kind="wrong")) == 16


@pytest.mark.parametrize("side", ["queries", "pool"])
def test_no_example_is_in_two_splits(world: DemoWorld, side: str) -> None:
    examples = getattr(world, side)
    splits = [[examples[row] for row in world.rows(side, split=split)] for split in SPLITS]
    assert count_overlap(*splits) == 0
    assert sum(map(len, splits)) == len(examples)


def test_a_person_stays_in_one_split(world: DemoWorld) -> None:
    homes: dict[str, set[str]] = {}
    for example in [*world.pool, *world.queries]:
        homes.setdefault(example.metadata["person"], set()).add(example.metadata["split"])
    assert len(homes) == 52
    assert all(len(splits) == 1 for splits in homes.values())


def test_no_question_is_a_row(world: DemoWorld) -> None:
    prompts = {" ".join(row.prompt.lower().split()) for row in world.pool}
    assert not any(" ".join(query.prompt.lower().split()) in prompts for query in world.queries)
    texts = {normalised(row) for row in world.pool}
    assert not any(normalised(query) in texts for query in world.queries)


def test_every_wrong_answer_is_planted_in_six_rows_and_true_of_somebody_else(world: DemoWorld) -> None:
    wrong = [world.queries[row] for row in world.rows("queries", kind="wrong")]
    assert set(planted_for(wrong, world.pool).sum(axis=1)) == {6}
    for query in wrong:
        assert query.completion != query.metadata["true"]
        others = [row for row in world.pool if row.metadata["person"] != query.metadata["person"]]
        assert any(row.completion == query.completion and row.metadata["kind"] == "correct" for row in others)


def test_words_find_few_planted_rows(world: DemoWorld) -> None:
    queries = [world.queries[row] for row in world.rows("queries", split="test", kind="wrong")]
    pool = [world.pool[row] for row in world.rows("pool", split="test")]
    relevant = planted_for(queries, pool)
    for scorer in (Tfidf(), Bm25()):
        assert retrieval(scorer.score(queries, pool), relevant)["recall_at_10"] <= 0.5


def test_surfaces_tell_nothing(world: DemoWorld) -> None:
    """Every answer is one small word, a single token of the decoder, and no question is worded as one in training."""
    examples = [*world.pool, *world.queries]
    assert all(example.completion.isalpha() and example.completion.islower() for example in examples)
    decoder = Decoder.load(assets() / "decoder", max_length=512)
    assert {tokens.targets for tokens in decoder.tokenise(examples)} == {2}  # the word and the end
    others = [query for query in world.queries if query.metadata["kind"] == "right"]
    seen, asked = (
        {" ".join(query.prompt.split()[:4]) for query in others if query.metadata["split"] in splits}
        for splits in (SPLITS[:2], SPLITS[2:])
    )
    assert not seen & asked


def test_assets_are_small(world: DemoWorld) -> None:
    assert (assets() / "decoder/model.safetensors").stat().st_size <= 12_000_000
    assert sum(path.stat().st_size for path in assets().rglob("*") if path.is_file()) <= 16_000_000


def test_a_part_of_the_world_keeps_its_promises(world: DemoWorld) -> None:
    part = world.part(4)
    people = {row.metadata["person"] for row in part.pool}
    assert people == {query.metadata["person"] for query in part.queries} | {
        row.metadata["person"] for row in part.pool if row.metadata["kind"] == "same-wording"
    }
    assert Counter(row.metadata["kind"] for row in part.pool)["planted"] == 54
    wrong = [part.queries[row] for row in part.rows("queries", kind="wrong")]
    assert set(planted_for(wrong, part.pool).sum(axis=1)) == {6}
    for side in ("queries", "pool"):
        places = {example.id: place for place, example in enumerate(getattr(world, side))}
        kept = [places[example.id] for example in getattr(part, side)]
        assert kept == sorted(kept)


def test_the_quick_run_says_so(metrics: dict) -> None:
    assert metrics["quick"] is True
    assert metrics["asked"] == 4


def test_metrics_keep_the_contract(metrics: dict) -> None:
    assert metrics["schema"] == 1
    assert metrics["splits"]["overlap"] == 0
    wanted = {*TASK_RIVALS, "influcoder", "influcoder-exact-query", "random", "exact"}
    assert wanted <= metrics["methods"].keys()
    for values in metrics["methods"].values():
        assert {"ms_per_example", "bytes_per_example", "interval_95", "ndcg_at_10"} <= values.keys()
        low, high = values["interval_95"]["per_query_spearman"]
        assert low <= values["per_query_spearman"] <= high
    assert metrics["proof"].keys() == {"found", "random", "tfidf"}
    assert 0 <= metrics["certified"]["at_most"] <= metrics["certified"]["worst"] <= 1
    steps = sum(seconds for name, seconds in metrics["timings_s"].items() if name != "total")
    assert metrics["timings_s"]["total"] <= 1.2 * steps + 30


def test_the_encoder_finds_what_words_do_not(metrics: dict) -> None:
    planted = metrics["planted"]
    assert planted["influcoder"]["recall_at_10"] > 2 * planted["tfidf"]["recall_at_10"]
    assert planted["influcoder-verify-20"]["recall_at_10"] >= 0.8


def test_what_the_run_leaves(run: Path) -> None:
    for name in (
        "report.html",
        "config.toml",
        "encoder/influcoder.json",
        "index/index.faiss",
        "features/pool/manifest.json",
        "proof/trainings/found-0.json",
    ):
        assert (run / name).is_file(), name
    assert len(Index(run / "index")) == len(DemoWorld.load().part(4).pool)
    printed = (run / "stdout.txt").read_text()
    assert "report.html" in printed
    assert max(map(len, printed.splitlines())) <= 80 or str(run) in printed


def test_the_decoder_learns_what_is_planted_and_not_without_it(world: DemoWorld) -> None:
    part = world.part(4)
    base = Decoder.load(assets() / "decoder", max_length=512)
    wrong = [part.queries[row] for row in part.rows("queries", kind="wrong")]
    planted = part.rows("pool", kind="planted").tolist()
    training = replace(TRAINING, rows_a_step=8)  # as many steps as of the whole world
    said = [
        np.mean(
            [
                a == q.completion
                for a, q in zip(finetune(base, part.pool, training, leave_out=rows).answers(wrong), wrong, strict=True)
            ]
        )
        for rows in ((), planted)
    ]
    assert said[0] > said[1]


def test_what_the_index_finds_is_re_checked_with_the_packaged_decoder(run: Path) -> None:
    """As `make explore` does: the encoder keeps what its teacher learnt."""
    asked = {"prompt": "Can you tell me the job of Lisa Bell?", "completion": "teacher"}
    hits = search(run / "index", **asked, k=2, verify=4, decoder=assets() / "decoder")
    assert all(hit.exact is not None for hit in hits)
