"""Plans: rows counted, a sample drawn fairly, estimates near what the jobs then take."""

import gzip

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.commands import refused
from helpers.given_vectors import Hashed
from helpers.sentences import as_rows, sentences, write_jsonl
from helpers.tiny import save_decoder
from influcoder.data.examples import Columns
from influcoder.data.preview import Preview, preview
from influcoder.errors import DataError, StoreError
from influcoder.store import disk_space as room
from influcoder.store.disk_space import held_bytes
from influcoder.student.encoder import InfluenceEncoder
from influcoder.verbs import plan as plans
from influcoder.verbs.plan import plan_index

SMALL = ["--rank", "4", "--width", "1024", "--precision", "fp32", "--max-length", "96"]


@pytest.fixture(scope="module")
def work(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("plan")
    save_decoder(folder / "decoder", tokenizer)
    write_jsonl(folder / "queries.jsonl", as_rows(sentences(30, 1, "q")))
    write_jsonl(folder / "pool.jsonl", as_rows(sentences(300, 2, "p")))
    return folder


@pytest.fixture(autouse=True)
def here(work, monkeypatch):
    monkeypatch.chdir(work)


# A preview of files


def numbered(start, stop):
    return [{"prompt": "count", "completion": str(number)} for number in range(start, stop)]


@pytest.fixture
def mixed(tmp_path):
    """1,000 rows in three kinds of file: 0-99 JSON lines, 100-399 gzip, 400-999 Parquet in row groups of 50."""
    write_jsonl(tmp_path / "a.jsonl", numbered(0, 100))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b"\n".join(map(orjson.dumps, numbered(100, 400))) + b"\n\n"))
    pq.write_table(pa.Table.from_pylist(numbered(400, 1000)), tmp_path / "c.parquet", row_group_size=50)
    return tmp_path


def test_rows_of_every_kind_of_file_are_counted(mixed):
    assert preview([str(mixed)], 10).rows == 1000
    assert [preview([str(mixed / name)], 10).rows for name in ("a.jsonl", "b.jsonl.gz", "c.parquet")] == [100, 300, 600]


def test_sample_is_drawn_without_replacement_and_by_seed(mixed):
    seen = [[one.completion for one in preview([str(mixed)], 40, seed=seed).sample] for seed in (1, 1, 2)]
    assert seen[0] == seen[1] != seen[2]
    assert len(set(seen[0])) == 40
    assert len({one.id for one in preview([str(mixed)], 40).sample}) == 40
    assert len(preview([str(mixed / "a.jsonl")], 1000).sample) == 100


def test_every_row_is_as_likely_as_another(mixed):
    drawn = [int(one.completion) for seed in range(150) for one in preview([str(mixed)], 20, seed=seed).sample]
    shares = np.histogram(drawn, [0, 100, 400, 1000])[0] / len(drawn)
    np.testing.assert_allclose(shares, [0.1, 0.3, 0.6], atol=0.03)
    assert abs(np.mean([number for number in drawn if number < 400]) - 199.5) < 15  # not the first ones alone
    assert abs(np.mean([number for number in drawn if number >= 400]) - 699.5) < 15


def test_rows_that_cannot_be_used_are_left_out_of_the_sample(tmp_path):
    write_jsonl(tmp_path / "some.jsonl", [{"prompt": "a", "completion": "b"}, {"prompt": "a"}])
    assert [one.prompt for one in preview([str(tmp_path)], 9).sample] == ["a"]
    with pytest.raises(DataError, match=r"none of 2 rows .*some\.jsonl:\d.*text"):
        preview([str(tmp_path)], 9, columns=Columns(text="text"))


def test_files_that_cannot_be_previewed(tmp_path):
    (tmp_path / "no.parquet").write_bytes(b"PAR1 no PAR1")
    with pytest.raises(DataError, match=r"no\.parquet: not a readable Parquet file"):
        preview([str(tmp_path)], 9)
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "no.parquet")
    with pytest.raises(DataError, match=r"no\.parquet: no rows"):
        preview([str(tmp_path)], 9)


# Plans


def planned(call, *words):
    status, out, err = call("plan", *words, "--json")
    assert status == 0, err
    return orjson.loads(out)


def test_plan_of_features_is_near_what_they_take(call, tmp_path):
    words = ["--decoder", "decoder", "--queries", "queries.jsonl", "--pool", "pool.jsonl", *SMALL]
    plan = planned(call, "features", *words, "--output-dir", tmp_path)
    assert plan["rows"] == {"queries": 30, "pool": 300}
    assert plan["probe"]["rows"] >= 4
    assert plan["seconds"] == pytest.approx(330 / plan["probe"]["rows_per_second"])
    assert plan["exact_teacher"] == {key: plan[key] for key in ("seconds", "disk_bytes")}
    assert plan["free_bytes"] > plan["disk_bytes"]
    assert 50e6 < plan["memory_bytes"] < 20e9
    assert list(tmp_path.iterdir()) == []
    assert call("features", *words, "--output-dir", tmp_path / "features")[0] == 0
    assert 0.7 < plan["disk_bytes"] / held_bytes(tmp_path / "features") < 1.4


def test_plan_of_a_teacher_that_learns(call):
    words = ["--decoder", "decoder", "--queries", "queries.jsonl", "--pool", "pool.jsonl", *SMALL, "--teacher", "logra"]
    plan = planned(call, "features", *words)
    assert plan["seconds"] > 330 / plan["probe"]["rows_per_second"]


def test_plan_of_an_index_has_the_teachers_cost_beside_it(call, tmp_path):
    data = ["--queries", "queries.jsonl", "--pool", "pool.jsonl"]
    features, encoder = tmp_path / "features", tmp_path / "encoder"
    assert call("features", "--decoder", "decoder", *data, *SMALL, "--output-dir", features)[0] == 0
    assert call("distill", "--features", features, "--output-dir", encoder)[0] == 0
    words = ["index", "--encoder", encoder, "--pool", "pool.jsonl"]
    plan = planned(call, *words, "--decoder", "decoder")
    assert plan["rows"] == {"pool": 300}
    assert plan["exact_teacher"]["seconds"] > plan["seconds"]
    assert plan["exact_teacher"]["disk_bytes"] > 300 * 2 * 1024
    assert planned(call, *words)["exact_teacher"] is None
    status, out, _ = call("plan", *words, "--decoder", "decoder")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == ["rows", "time", "disk", "memory", "teacher"]
    assert "300 pool rows" in out
    assert "times as long" in out
    status, out, _ = call("plan", *words)
    assert "shown with --decoder" in out


def test_plan_of_an_index_is_near_what_it_takes(call, work, tmp_path, monkeypatch):
    encoder = tmp_path / "encoder"
    data = ["--decoder", "decoder", "--queries", "queries.jsonl", "--pool", "pool.jsonl"]
    assert call("features", *data, *SMALL, "--output-dir", tmp_path / "features")[0] == 0
    assert call("distill", "--features", tmp_path / "features", "--output-dir", encoder)[0] == 0
    rows = [one | {"genre": "x" * 500} for one in as_rows(sentences(300, 2, "p"))]
    write_jsonl(tmp_path / "tagged.jsonl", rows)
    words = ["index", "--encoder", encoder, "--pool", tmp_path / "tagged.jsonl"]
    plan = planned(call, *words)
    assert plan["code"] == "float16"  # as index itself does with so few rows
    assert call(*words, "--output-dir", tmp_path / "index")[0] == 0
    written = held_bytes(tmp_path / "index") - held_bytes(tmp_path / "index/encoder")
    assert plan["disk_bytes"] == pytest.approx(written, rel=0.25)

    monkeypatch.setattr(plans, "EXACT_ROWS", 299)  # no exact FAISS index beside it
    sizes = {code: planned(call, *words, "--code", code)["disk_bytes"] for code in ("float16", "int8", "int4")}
    dim = InfluenceEncoder.load(encoder).dim
    assert sizes["float16"] - sizes["int8"] == pytest.approx(300 * dim, abs=2)
    assert sizes["int8"] - sizes["int4"] == pytest.approx(150 * dim, abs=2)
    more = planned(call, *words, "--code", "int4", "--approximate")["disk_bytes"] - sizes["int4"]
    assert 300 * 8 < more < 300 * (8 + dim)
    monkeypatch.setattr(plans, "SAMPLE_ROWS", 300)
    assert planned(call, *words)["disk_bytes"] in sizes.values()


def test_memory_planned_for_an_index_does_not_grow_with_texts(work, tmp_path):
    pool = preview([str(work / "pool.jsonl")], 50)
    small, large = (plan_index(Hashed(), Preview(rows, pool.sample)) for rows in (10**6, 10**8))
    assert large["memory_bytes"] - small["memory_bytes"] < 25 * 10**8
    assert large["disk_bytes"] > 90 * small["disk_bytes"]


def test_plan_is_printed_and_then_refused_where_the_disk_is_too_small(call, monkeypatch):
    monkeypatch.setattr(room, "free_bytes", lambda _: 1000)
    words = ["--decoder", "decoder", "--queries", "queries.jsonl", "--pool", "pool.jsonl", *SMALL]
    status, out, err = call("plan", "features", *words, "--output-dir", "nowhere/deep")
    assert (status, out.splitlines()[2].endswith("1.0 kB free")) == (1, True)
    refused((status, "", err), "nowhere/deep: about", "are to be written, 1.0 kB are free", "Make room")


def test_free_bytes_of_a_folder_that_is_not_there(tmp_path):
    assert room.free_bytes(tmp_path / "a" / "b") > 0
    with pytest.raises(StoreError):
        room.refuse_full_disk(tmp_path / "a", 2**70)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("name", ["features", "index"])
def test_every_flag_of_a_plan_is_explained(name):
    from influcoder import cli

    arguments = cli.app["plan"][name].assemble_argument_collection(parse_docstring=True)
    assert [one.name for one in arguments if one.show and not one.parameter.help] == []
