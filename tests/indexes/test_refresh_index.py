"""An index is brought up to date: what is embedded, what stays, and what readers see meanwhile."""

from dataclasses import replace

import numpy as np
import orjson
import pytest

import influcoder
from helpers.sentences import as_rows, sentences, write_jsonl
from helpers.tiny_encoders import save_encoder
from influcoder.indexes import build as indexing
from influcoder.indexes import refresh as refreshing
from influcoder.indexes.index import Index
from influcoder.indexes.refresh import refresh
from influcoder.student.encoder import InfluenceEncoder

POOL = sentences(40, 3, "x")


@pytest.fixture(scope="module")
def encoders(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("encoders")
    first, _ = save_encoder(folder, tokenizer)
    influcoder.distill(folder / "train", folder / "second", seed=1)
    return InfluenceEncoder.load(first), InfluenceEncoder.load(folder / "second")


@pytest.fixture(params=["float16", "int8"])
def index(request, tmp_path, encoders):
    indexing.build(encoders[0], POOL, tmp_path / "index", code=request.param, shard_rows=8)
    return Index(tmp_path / "index").ready()


@pytest.fixture
def embedded(monkeypatch):
    """The ids of what was embedded, in order."""
    ids, usual = [], refreshing.embed

    def counted(encoder, examples):
        ids.extend(one.id for one in examples)
        return usual(encoder, examples)

    monkeypatch.setattr(refreshing, "embed", counted)
    return ids


def same_as_new(index, encoder, pool, folder):
    """Whether it is what would have been made anew."""
    made = Index.build(encoder, pool, folder, code=index.code.name)
    assert index.ids == made.ids
    assert list(index.examples()) == list(made.examples())
    assert np.linalg.norm(index.vectors - made.vectors) < 0.02 * np.linalg.norm(made.vectors)


def test_only_rows_whose_text_changed_are_embedded(index, encoders, embedded, tmp_path):
    pool = [*POOL[3:20], replace(POOL[20], completion="Rome two"), *POOL[21:], *sentences(2, 8, "new")]
    pool[0] = replace(pool[0], metadata={"kind": "a"})  # whose vector is the same
    changed, found = refresh(index, encoders[0], iter(pool))
    assert embedded == ["x20", "new0", "new1"]
    assert found["rows"] == 39
    assert (found["embedded"], found["unchanged"]) == (3, 36)
    same_as_new(changed, encoders[0], pool, tmp_path / "anew")


def test_shards_in_which_nothing_changed_are_not_written(index, encoders, embedded):
    pool = [*POOL[:24], replace(POOL[24], completion="Rome two"), *POOL[25:]]
    changed, _ = refresh(index, encoders[0], pool)
    names = [[shard["name"] for shard in one.shards] for one in (index, changed)]
    assert [a == b for a, b in zip(*names, strict=True)] == [True, True, True, False, True]
    assert embedded == ["x24"]
    assert changed.refresh(pool=pool).store.manifest == changed.store.manifest


@pytest.mark.parametrize("given", [True, False], ids=["pool", "its own rows"])
def test_another_encoder_embeds_everything(index, encoders, embedded, given, tmp_path):
    changed, found = refresh(index, encoders[1], iter(POOL) if given else None)
    assert len(set(embedded)) == found["embedded"] == 40
    assert changed.encoder.fingerprint == encoders[1].fingerprint
    same_as_new(changed, encoders[1], POOL, tmp_path / "anew")
    assert influcoder.search(index.folder, prompt="Paris", completion="Rome", k=2)
    changed.verify()


def test_readers_go_on_with_the_index_that_they_opened(index, encoders):
    """Also where they have read nothing of it yet; until the refresh after the next."""
    early, late = Index(index.folder), Index(index.folder)
    queries = np.ones((1, index.dim), np.float32)
    expected = index.search(queries, 5)
    changed, _ = refresh(index, encoders[1])
    for reader in (early, late):
        assert np.array_equal(reader.search(queries, 5).rows, expected.rows)
        assert reader.example(39) == POOL[39]
        assert reader.encoder.fingerprint == encoders[0].fingerprint
    again, _ = refresh(changed, encoders[0])
    assert again.encoder.fingerprint == encoders[0].fingerprint
    third, _ = refresh(again, encoders[1])
    assert {one.name for one in index.folder.glob("encoder*")} == {
        f"encoder-{one.fingerprint[:12]}" for one in encoders
    }
    named = {shard["name"] for one in (again, third) for shard in one.shards}
    assert {path.stem for path in index.folder.glob("shard-*")} == named


@pytest.mark.parametrize("last_thing", ["change", "write_shard"])
def test_a_refresh_that_is_stopped_leaves_the_index_as_it_was(index, encoders, monkeypatch, last_thing):
    usual, calls = getattr(refreshing, last_thing), []

    def stopped(*given, **more):
        calls.append(given)
        if last_thing == "change" or len(calls) == 3:
            raise KeyboardInterrupt
        return usual(*given, **more)

    monkeypatch.setattr(refreshing, last_thing, stopped)
    with pytest.raises(KeyboardInterrupt):
        refresh(index, encoders[1])
    monkeypatch.undo()
    left = Index(index.folder)
    assert left.store.manifest == index.store.manifest
    left.verify()
    assert refresh(left, encoders[0])[1]["embedded"] == 0
    changed, _ = refresh(left, encoders[1])
    changed.verify()
    assert changed.encoder.fingerprint == encoders[1].fingerprint


def test_rows_are_added_and_removed_after_a_refresh(index, encoders, tmp_path):
    changed, _ = refresh(index, encoders[1])
    new = sentences(3, 9, "later")
    same_as_new(changed.add(new).remove(["x0"]), encoders[1], [*POOL[1:], *new], tmp_path / "anew")
    assert {path.stem for path in index.folder.glob("shard-*")} == {
        shard["name"] for shard in Index(index.folder).shards
    }


def test_the_command_line_refreshes(index, encoders, call, tmp_path):
    write_jsonl(tmp_path / "pool.jsonl", as_rows(POOL[:30]))
    words = ("index", "--refresh", "--output-dir", index.folder, "--json")
    status, out, err = call(*words, "--pool", tmp_path / "pool.jsonl")
    assert status == 0, err
    assert orjson.loads(out) == {"rows": 30, "embedded": 0, "unchanged": 30}
    status, out, err = call(*words, "--encoder", encoders[1].folder)
    assert status == 0, err
    assert orjson.loads(out) == {"rows": 30, "embedded": 30, "unchanged": 0}
    for wrong in ((), ("--encoder", encoders[1].folder, "--code", "int8"), ("--remove", "x0", "--pool", "x.jsonl")):
        status, _, err = call(*words, *wrong)
        assert status == 1
        assert "--refresh" in err
