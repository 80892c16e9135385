"""The map of an index for Embedding Atlas."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from helpers.given_vectors import DIM, Fixed, Hashed, build, pool, whole_numbers
from influcoder.attribution import atlas
from influcoder.attribution.atlas import FILE, NEIGHBOURS, atlas_command, write_atlas
from influcoder.attribution.plane import places
from influcoder.data.examples import Example
from influcoder.indexes import build as indexing
from influcoder.indexes.index import Index


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("index")
    build(folder)
    return Index(folder)


def test_every_row_has_its_text_place_region_and_influence(index, tmp_path):
    question = Hashed().encode_pool(pool(0, 1))[0]
    facts = write_atlas(index, tmp_path, question)
    table = pq.read_table(tmp_path / FILE)
    assert facts == {"rows": len(index), "columns": table.column_names}
    assert table["id"].to_pylist() == index.ids
    assert table["text"][7].as_py() == "prompt 7\nsecret 7"
    where = np.stack([table["projection_x"].to_numpy(), table["projection_y"].to_numpy()], axis=1)
    np.testing.assert_array_equal(where, places(index))
    scores = index.scores(question[None])[0]
    np.testing.assert_array_equal(table["influence"].to_numpy(), scores)
    assert table["percentile"][int(scores.argmax())].as_py() == 100
    assert table["kind"].to_pylist() == [n % 3 for n in range(len(index))]
    assert None not in table["region"].to_pylist()


@pytest.mark.parametrize("exact_rows", [atlas.EXACT_ROWS, 50])
def test_neighbours_are_the_closest_other_rows_by_number(index, tmp_path, monkeypatch, exact_rows):
    monkeypatch.setattr(atlas, "EXACT_ROWS", exact_rows)
    write_atlas(index, tmp_path)
    found = pq.read_table(tmp_path / FILE)
    assert "influence" not in found.column_names
    unit = index.vectors / np.linalg.norm(index.vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T - 9 * np.eye(len(unit))
    right = 0
    for row, near in enumerate(found["neighbors"].to_pylist()):
        assert len(near["ids"]) == len(near["distances"]) <= NEIGHBOURS
        assert row not in near["ids"]
        assert near["distances"] == sorted(near["distances"])
        truth = np.sort(cosines[row])[::-1][: len(near["ids"])]
        if exact_rows > 50:
            np.testing.assert_allclose(1 - np.array(near["distances"]), truth, atol=2e-3)
        right += near["ids"][:1] == [int(cosines[row].argmax())]
    assert right > (90 if exact_rows > 50 else 10)  # few lists are probed where rows are many


def test_metadata_do_not_take_the_place_of_our_columns(tmp_path):
    examples = [Example(str(n), "p", "c", (), {"region": "Normandy", "source": "web"}) for n in range(20)]
    indexing.build(Fixed(whole_numbers(20)), iter(examples), tmp_path, shard_rows=8)
    write_atlas(Index(tmp_path), tmp_path)
    table = pq.read_table(tmp_path / FILE)
    assert len(table.column_names) == len(set(table.column_names))
    assert "Normandy" not in table["region"].to_pylist()
    assert set(table["source"].to_pylist()) == {"web"}


def test_one_row(tmp_path):
    indexing.build(Fixed(np.ones((1, DIM), np.float32)), iter([Example("0", "p", "c")]), tmp_path)
    write_atlas(Index(tmp_path), tmp_path)
    assert pq.read_table(tmp_path / FILE)["neighbors"].to_pylist() == [{"ids": [], "distances": []}]


def test_the_command_names_the_columns(tmp_path):
    words = atlas_command(tmp_path / FILE)
    assert words[:3] == ["uvx", "embedding-atlas", str(tmp_path / FILE)]
    assert words[3:] == ["--text", "text", "--x", "projection_x", "--y", "projection_y", "--neighbors", "neighbors"]
