"""`influcoder audit`: a whole chain is verified; whatever is changed in it is named."""

import shutil
import subprocess

import orjson
import pyarrow.parquet as pq
import pytest

from helpers.chain import SMALL, rows
from helpers.commands import refused
from helpers.sentences import write_jsonl
from influcoder.store.files import read_json, write_sealed

PARTS = ("decoder", "features", "encoder", "index", "selection", "proof")


@pytest.fixture
def run(chain, tmp_path):
    """A copy to be changed: of links, but for what a test writes anew."""
    for part in PARTS:
        shutil.copytree(chain / part, tmp_path / "run" / part)
    for path in (tmp_path / "run").rglob("config.toml"):
        path.write_text(path.read_text().replace(str(chain), str(tmp_path / "run")))
    return tmp_path / "run"


@pytest.fixture
def audit(call):
    def audited(*words):
        status, out, err = call("audit", *words, "--json")
        assert out, err
        return status, orjson.loads(out)

    return audited


def broken(found):
    return [one for one in found["findings"] if one["status"] == "broken"]


def test_a_whole_chain_is_verified(chain, audit, tmp_path):
    status, found = audit(chain, "--output-dir", tmp_path / "audit")
    assert broken(found) == []
    assert (status, found["verdict"]) == (0, "verified")
    assert [part["kind"] for part in found["parts"]] == list(PARTS)
    assert len(found["can"]) == len(PARTS)
    assert any("influence is a local" in sentence for sentence in found["cannot"])
    page = (tmp_path / "audit" / "audit.html").read_text()
    assert "The chain is whole" in page
    assert found["parts"][0]["files"]["model.safetensors"] in page
    assert "<script" not in page
    assert orjson.loads((tmp_path / "audit" / "audit.json").read_bytes())["verdict"] == "verified"


def test_a_chain_is_followed_from_its_end(chain, audit):
    status, found = audit(chain / "selection")
    assert status == 0
    assert [part["kind"] for part in found["parts"]] == list(PARTS[:-1])
    assert any("no model was trained without them" in sentence for sentence in found["cannot"])


def flip(path):
    """Change one byte in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def seal_again(path, change):
    """Change a sealed record as somebody who knows how it is sealed."""
    record = read_json(path, "")
    change(record)
    del record["sha256"]
    write_sealed(path, record)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("decoder/model.safetensors", "another decoder: decoder:"),
        ("decoder/tokenizer.json", "decoder"),
        ("features/pool/shard-00000.safetensors", "shard-00000.safetensors: its bytes are not those"),
        ("features/queries/shard-00000.parquet", "shard-00000.parquet: its bytes are not those"),
        ("features/pool/manifest.json", "manifest.json"),
        ("features/backbone/model.safetensors", "backbone/model.safetensors: missing, or its bytes"),
        ("encoder/head.safetensors", "head.safetensors: its bytes are not those"),
        ("encoder/influcoder.json", "influcoder.json"),
        ("index/shard-00000.safetensors", "shard-00000.safetensors: its bytes are not those"),
        ("index/shard-00000.parquet", "shard-00000.parquet: its bytes are not those"),
        ("index/manifest.json", "manifest.json"),
        ("index/index.faiss", "index.faiss"),
        ("index/encoder/head.safetensors", "head.safetensors: its bytes are not those"),
        ("selection/selection.parquet", "selection.parquet: missing, or its bytes"),
        ("selection/kept.jsonl", "kept.jsonl: missing, or its bytes"),
        ("selection/selection.json", "selection.json"),
        ("proof/record.json", "record.json"),
        ("proof/trainings/found-0.json", "found-0.json"),
        ("proof/removed/found-0.jsonl", "found-0.jsonl"),
    ],
)
def test_a_tampered_byte_is_named(run, audit, name, told):
    flip(run / name)
    status, found = audit(run)
    assert (status, found["verdict"]) == (1, "broken")
    assert any(told in f"{one['part']} {one['detail']}" for one in broken(found)), broken(found)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("features/pool/shard-00000.safetensors", "features"),
        ("features/pool/manifest.json", "features"),
        ("encoder/influcoder.json", "encoder"),
        ("index/shard-00000.parquet", "index"),
        ("index/manifest.json", "index"),
        ("selection/selection.parquet", "selection"),
        ("selection/selection.json", "selection"),
        ("proof/record.json", "proof"),
        ("proof/trainings/random-0.json", "proof"),
    ],
)
def test_a_missing_file_is_named(run, audit, name, part):
    (run / name).unlink()
    status, found = audit(run)
    assert status == 1
    assert any(one["part"] == part for one in broken(found)), found["findings"]


@pytest.mark.parametrize("part", ["decoder", "features", "index"])
def test_a_missing_part_is_named(run, audit, part):
    shutil.rmtree(run / part)
    status, found = audit(run)
    assert status == 1
    assert [one["what"] for one in found["findings"] if one["status"] == "missing"] == [
        f"it comes from this run's {part}"
    ] * (2 if part == "index" else 1)
    assert found["verdict"] == "incomplete"


def test_the_config_of_the_run_may_name_the_decoder(chain, run, audit):
    shutil.rmtree(run / "decoder")
    (run / "config.toml").write_text(f'verb = "trace"\ndecoder = "{chain / "decoder"}"\n')
    status, found = audit(run)
    assert (status, found["verdict"]) == (0, "verified")


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        ("features", "rank = 4", "rank = 8", "rank: 8"),
        ("encoder", "seed = 0", "seed = 1", "seed: 1"),
        ("selection", "rows = 9", "rows = 8", "rows: 8"),
        ("selection", 'cap = ["source=60%"]\n', "", "cap: None there"),
        ("proof", "remove = 3", "remove = 2", "remove: 2"),
    ],
)
def test_a_changed_setting_is_named(run, audit, name, old, new, told):
    path = run / name / "config.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    status, found = audit(run)
    assert status == 1
    assert [one["part"].split()[0] for one in broken(found)] == [name]
    assert told in broken(found)[0]["detail"]


def test_what_was_sealed_anew_is_seen_by_what_was_made_from_it(run, audit):
    """Somebody who seals a manifest again cannot seal the selection that names it."""
    seal_again(run / "index" / "manifest.json", lambda record: record.update(made_by={"encoder": "0" * 64}))
    _, found = audit(run)
    assert any("rows were added or removed" in one["detail"] for one in broken(found))
    assert any("embedded by encoder 000000000000" in one["detail"] for one in broken(found))


def test_rows_that_were_kept_against_the_rule_are_seen(run, audit):
    path = run / "selection" / "selection.parquet"
    table = pq.read_table(path)
    kept = table["kept"].to_pylist()
    first = kept.index(True)
    kept[first] = False
    place = table.column_names.index("kept")
    pq.write_table(table.set_column(place, "kept", [kept]), path)
    from influcoder.store.files import sha256

    def change(record):
        record["files"]["selection.parquet"] = sha256(path)
        record["kept"] = sum(kept)

    seal_again(run / "selection" / "selection.json", change)
    status, found = audit(run)
    assert status == 1
    assert any("decides otherwise on 1 rows" in one["detail"] for one in broken(found))


def test_numbers_that_trainings_do_not_give_are_seen(run, audit):
    path = run / "proof" / "metrics.json"
    metrics = orjson.loads(path.read_bytes())
    metrics["conditions"]["found"]["changed"] = 0.99
    path.write_bytes(orjson.dumps(metrics))
    _, found = audit(run)
    assert [one["what"] for one in broken(found)] == ["metrics.json is what the trainings give"]


@pytest.mark.parametrize("what", ["answers", "losses"])
def test_answers_that_no_model_gave_are_seen(run, audit, what):
    path = run / "proof" / "answers.jsonl"
    first, *rest = path.read_bytes().splitlines(keepends=True)
    row = orjson.loads(first)
    row[what]["found"] = "Paris" if what == "answers" else 0.5
    path.write_bytes(orjson.dumps(row) + b"\n" + b"".join(rest))
    _, found = audit(run)
    assert [one["what"] for one in broken(found)] == ["answers.jsonl is what the models answered"]


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    for name in ("mine", "other"):
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", folder / name], check=True)
        public = ["openssl", "pkey", "-in", folder / name, "-pubout", "-out", folder / f"{name}.pub"]
        subprocess.run(public, check=True)
    return folder


def test_a_signed_audit_is_verified_by_whoever_has_the_public_key(run, audit, call, keys):
    status, _ = audit(run, "--output-dir", run / "audit", "--sign", keys / "mine")
    assert status == 0
    moved = run.rename(run.parent / "moved")
    status, found = audit(moved / "audit", "--verify-key", keys / "mine.pub")
    assert (status, found["signature"], found["changed_since"]) == (0, "verified", [])
    refused(call("audit", moved / "audit", "--verify-key", keys / "other.pub"), "not a signature of audit.json")
    flip(moved / "proof" / "metrics.json")
    status, found = audit(moved / "audit")
    assert status == 1
    assert found["signature"].startswith("not checked")
    assert ["metrics.json: its bytes are not those that were audited" in line for line in found["changed_since"]] == [
        True
    ]
    seal_again(moved / "audit" / "audit.json", lambda record: record.update(can=["everything"]))
    refused(call("audit", moved / "audit", "--verify-key", keys / "mine.pub"), "not a signature of audit.json")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "no features, encoder, evaluation, index, selection or proof in it"),
        (["RUN", "--sign", "KEY"], "give --output-dir as well"),
        (["RUN", "--verify-key", "KEY"], "there is nothing signed"),
        (["RUN", "--output-dir", "RUN"], "the output folder is, holds or lies in the input"),
        (["RUN", "--output-dir", "OUT", "--sign", "RUN"], "not a private ed25519 key"),
    ],
)
def test_what_cannot_be_audited(chain, call, tmp_path, words, told):
    places = {"RUN": chain, "OUT": tmp_path / "out", "KEY": tmp_path / "key", "nowhere": tmp_path / "nowhere"}
    refused(call("audit", *(places.get(word, word) for word in words)), told)


def test_the_terminal_shows_what_is_wrong(run, call):
    flip(run / "index" / "shard-00000.safetensors")
    status, out, _ = call("audit", run)
    assert status == 1
    assert out.startswith("The chain is broken")
    assert "✗ index: every shard has its hash" in out
    assert "Cannot be concluded:" in out


@pytest.fixture
def evaluated(run, call):
    """The run, with an evaluation of its encoder on other rows."""
    for name, count, seed in (("queries", 6, 11), ("pool", 12, 13)):
        write_jsonl(run / f"test-{name}.jsonl", rows(count, seed, f"test-{name}"))
    asked = ["--queries", run / "test-queries.jsonl", "--pool", run / "test-pool.jsonl", *SMALL]
    told = call("features", "--decoder", run / "decoder", *asked, "--output-dir", run / "test-features")
    assert told[0] == 0, told[2]
    tested = ["--encoder", run / "encoder", "--features", run / "test-features"]
    told = call("evaluate", *tested, "--output-dir", run / "evaluation")
    assert told[0] == 0, told[2]
    return run


def test_an_evaluation_is_of_the_encoder_and_its_features(evaluated, audit):
    status, found = audit(evaluated)
    assert (status, broken(found)) == (0, [])
    assert any("6 queries and 12 pool rows that it had not seen" in sentence for sentence in found["can"])
    assert [part["kind"] for part in audit(evaluated / "evaluation")[1]["parts"]] == [*PARTS[:3], "evaluation"]


def test_an_evaluation_of_an_earlier_version_is_held_to_its_fidelity(evaluated, audit):
    path = evaluated / "evaluation" / "metrics.json"
    metrics = orjson.loads(path.read_bytes())
    del metrics["encoder"]
    path.write_bytes(orjson.dumps(metrics))
    assert audit(evaluated)[0] == 0
    shutil.rmtree(evaluated / "test-features")
    status, found = audit(evaluated)
    assert status == 1
    assert any("an earlier version wrote it" in finding["detail"] for finding in broken(found))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda metrics: metrics["methods"]["influcoder"].update(per_query_spearman=0.99),
            "not what the encoder gives",
        ),
        (lambda metrics: metrics.update(encoder="0" * 64), "of another encoder"),
    ],
)
def test_an_evaluation_that_was_changed_is_named(evaluated, audit, change, told):
    path = evaluated / "evaluation" / "metrics.json"
    metrics = orjson.loads(path.read_bytes())
    change(metrics)
    path.write_bytes(orjson.dumps(metrics))
    status, found = audit(evaluated)
    assert status == 1
    assert [(one["part"], told in one["detail"]) for one in broken(found)] == [("evaluation", True)]
