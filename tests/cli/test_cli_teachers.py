"""The command line of the teachers: every one of them from end to end, shared jobs, and what is refused."""

import os
import shutil
import tomllib
from pathlib import Path

import numpy as np
import orjson
import pytest
import torch

import influcoder
from helpers.commands import refused
from helpers.folders import contents
from helpers.forks import Fork, command, module
from helpers.sentences import as_rows, sentences, write_jsonl
from helpers.tiny import save_adapter, save_decoder, tiny_model
from influcoder.errors import ConfigError, StoreError
from influcoder.maths.metrics import spearman_rows
from influcoder.model.decoder import Decoder
from influcoder.model.finetune import FinetuneSettings, finetune
from influcoder.report import figures
from influcoder.runners.share import Share
from influcoder.store.output_folder import claim
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.encoder_folder import teacher_of
from influcoder.student.features_folder import FeaturesFolder
from influcoder.teachers import check
from influcoder.teachers.settings import TEACHERS

CHECKPOINTS = ["--checkpoints", "run/checkpoint-2", "run/checkpoint-4"]
SAME = ["--rank", "4", "--precision", "fp32", "--max-length", "96"]
ROWS = ["--queries", "queries.jsonl", "--pool", "pool.jsonl"]
MANY = ["--decoder", "decoder", "--queries", "queries.jsonl", "--pool", "many.jsonl", *SAME, "--width", "64"]


@pytest.fixture(scope="module")
def work(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("teachers")
    for name, (count, seed) in {
        "queries": (14, 1),
        "pool": (24, 2),
        "test-queries": (6, 11),
        "test-pool": (12, 12),
        "many": (300, 3),
        "two": (2, 4),
    }.items():
        write_jsonl(folder / f"{name}.jsonl", as_rows(sentences(count, seed, name)))
    save_decoder(folder / "decoder", tokenizer, layers=1)
    save_adapter(folder / "adapter", "llama", layers=1, r=2, target_modules=["q_proj", "down_proj"])
    save_adapter(folder / "adapter-of-another", "gpt2", r=2, target_modules=["c_attn"])
    damaged = {"other": None, "nan": "model.layers.0.mlp.down_proj.weight", "nan-word": "model.embed_tokens.weight"}
    for name, parameter in damaged.items():
        model = tiny_model("llama", seed=8, layers=1)
        with torch.no_grad():
            if parameter:
                row = 0 if name == "nan" else tokenizer("Rome")["input_ids"][0]
                model.get_parameter(parameter)[row] = float("nan")
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    settings = FinetuneSettings(epochs=2, rows_a_step=8, precision="fp32")
    decoder = Decoder.load(folder / "decoder", device="cpu", max_length=96)
    finetune(decoder, sentences(16, 2, "t"), settings, checkpoints=folder / "run")
    finetune(decoder, sentences(16, 5, "t"), settings, checkpoints=folder / "other-run")
    (folder / "empty").mkdir()
    return folder


@pytest.fixture(autouse=True)
def here(work, monkeypatch):
    monkeypatch.chdir(work)
    monkeypatch.setattr(check, "PROBE", 4)  # a teacher agrees with itself on fewer rows in less time


def decoder_of(name):
    adapter = ["--adapter", "adapter"] if name == "adapter" else []
    return ["--decoder", "decoder", *adapter, *(CHECKPOINTS if name in ("tracin", "less") else [])]


def teaching(name):
    width = ["--width", "256"] if TEACHERS[name][1].get("width", 1) else []
    return ["--teacher", name, *SAME, *width]


@pytest.fixture
def made(call):
    """Makes a teacher's features, encoder and index once, and gives their folder."""

    def make(name):
        folder = Path("made") / name
        if not (folder / "index" / "metrics.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
            steps = [
                ["features", *decoder_of(name), *teaching(name), *ROWS, "--output-dir", folder / "features"],
                ["distill", "--features", folder / "features", "--output-dir", folder / "encoder"],
                ["index", "--encoder", folder / "encoder", "--pool", "pool.jsonl", "--output-dir", folder / "index"],
            ]
            for words in steps:
                status, _, err = call(*words)
                assert status == 0, err
        return folder

    return make


def numbers(folder):
    return orjson.loads((folder / "metrics.json").read_bytes())


def features_of_the_test(call, name):
    """The features of the test examples, made once."""
    folder = Path("made") / name / "test"
    if not (folder / "metrics.json").exists():
        words = [*decoder_of(name), *teaching(name), "--queries", "test-queries.jsonl", "--pool", "test-pool.jsonl"]
        status, _, err = call("features", *words, "--output-dir", folder, "--resume")
        assert status == 0, err
    return folder


@pytest.mark.parametrize("name", TEACHERS)
def test_verified_hits_are_the_influences_in_the_features(made, call, name):
    """What the teacher learnt, its checkpoints and its adapter travel from features to encoder to index."""
    folder = made(name)
    found = numbers(folder / "features")
    assert found["teacher"]["teacher"]["name"] == name
    assert 0 <= found["self_check"]["error"] < 1e-3
    assert len(found["teacher"]["teacher"].get("checkpoints", [])) == (2 if name in ("tracin", "less") else 0)
    sample = FeaturesFolder(folder / "features").sample
    where = ["--index", folder / "index", "--queries", "queries.jsonl", "-k", 5, "--verify", 5, "--json"]
    status, out, err = call("search", *where, *decoder_of(name))
    assert status == 0, err
    places = {example.id: place for place, example in enumerate(sample.pool)}
    for truth, query in zip(sample.influence, orjson.loads(out), strict=True):
        expected = [truth[places[hit["id"]]] for hit in query["hits"]]
        atol = 2e-3 * np.abs(sample.influence).max()
        np.testing.assert_allclose([hit["exact"] for hit in query["hits"]], expected, atol=atol)


@pytest.mark.parametrize("name", TEACHERS)
def test_every_teachers_encoder_is_evaluated(made, call, name, monkeypatch):
    monkeypatch.setattr(figures, "is_installed", lambda _: name == "logra")  # the same drawing for each of them
    folder = made(name)
    where = [
        "--encoder",
        folder / "encoder",
        "--features",
        features_of_the_test(call, name),
        "--output-dir",
        folder / "evaluated",
    ]
    status, out, err = call("evaluate", *where, "--train-features", folder / "features", *decoder_of(name), "--json")
    assert status == 0, err
    found = orjson.loads(out)
    assert {"influcoder", "influcoder-exact-query", "exact", "surface", "untrained"} <= set(found["methods"])
    assert set(found["skipped"]) == {"paper-recipe"}
    assert found["teacher"]["name"] == name


@pytest.mark.parametrize("name", TEACHERS)
def test_every_teachers_features_are_replayed(call, name, tmp_path, monkeypatch):
    folder = features_of_the_test(call, name).absolute()
    shutil.copytree(folder, tmp_path / "kept")
    monkeypatch.chdir(tmp_path)
    status, _, err = call("run", tmp_path / "kept" / "config.toml", "--overwrite")
    assert status == 0, err
    assert contents(folder) == contents(tmp_path / "kept")


@pytest.mark.parametrize("name", ["logra", "ekfac", "gist"])
def test_exact_queries_are_in_the_basis_the_encoder_was_distilled_in(made, call, name):
    """A curvature learnt from the test's pool has other directions than the one the encoder knows."""
    folder = made(name)
    where = [
        "--encoder",
        folder / "encoder",
        "--features",
        features_of_the_test(call, name),
        "--output-dir",
        folder / "exact-query",
    ]
    status, out, err = call("evaluate", *where, "--decoder", "decoder", "--overwrite", "--json")
    assert status == 0, err
    encoder, test = InfluenceEncoder.load(folder / "encoder"), FeaturesFolder(folder / "test").sample
    teacher = teacher_of(encoder, Decoder.load("decoder", device="cpu", max_length=96))
    vectors = encoder.project_query(test.queries, teacher.features(test.queries, "query").vectors)
    expected = spearman_rows(test.influence, vectors @ encoder.encode_pool(test.pool).T).mean()
    found = orjson.loads(out)["methods"]["influcoder-exact-query"]["per_query_spearman"]
    assert found == pytest.approx(expected, abs=1e-6)


def test_evaluation_is_replayed_with_its_checkpoints(made, call, tmp_path, monkeypatch):
    folder = made("tracin").absolute()
    where = [
        "--encoder",
        folder / "encoder",
        "--features",
        features_of_the_test(call, "tracin"),
        "--output-dir",
        tmp_path / "out",
    ]
    assert call("evaluate", *where, *decoder_of("tracin"))[0] == 0
    before = numbers(tmp_path / "out")["methods"]["exact"]["per_query_spearman"]
    monkeypatch.chdir(tmp_path)
    assert call("run", tmp_path / "out" / "config.toml", "--overwrite")[0] == 0
    assert numbers(tmp_path / "out")["methods"]["exact"]["per_query_spearman"] == before


def test_modules_are_chosen_and_normalised(call, tmp_path):
    words = ["--decoder", "decoder", *ROWS, *SAME, "--width", "64", "--modules", "*.mlp.*", "--normalise-modules"]
    assert call("features", *words, "--output-dir", tmp_path / "out")[0] == 0
    settings = numbers(tmp_path / "out")["teacher"]["teacher"]["settings"]
    assert (settings["modules"], settings["normalise_modules"]) == ("*.mlp.*", True)
    config = tomllib.loads((tmp_path / "out" / "config.toml").read_text(encoding="utf-8"))
    assert (config["modules"], config["normalise_modules"]) == (["*.mlp.*"], True)
    before = contents(tmp_path / "out")
    assert call("run", tmp_path / "out" / "config.toml", "--overwrite")[0] == 0
    assert contents(tmp_path / "out") == before


def test_tracin_without_checkpoints_is_the_decoder_alone(call, tmp_path):
    words = ["features", "--decoder", "decoder", *ROWS, *SAME, "--width", "64"]
    for name in ("tracin", "gradient-dot"):
        assert call(*words, "--teacher", name, "--output-dir", tmp_path / name)[0] == 0
    np.testing.assert_array_equal(
        *(FeaturesFolder(tmp_path / name).sample.influence for name in ("tracin", "gradient-dot"))
    )


def test_checkpoints_by_glob_come_in_the_order_of_training(call, tmp_path):
    for step in (2, 4):
        shutil.copytree(f"run/checkpoint-{step}", tmp_path / f"checkpoint-{step * 3}")
    words = ["features", "--decoder", "decoder", "--teacher", "tracin", *ROWS, *SAME, "--width", "64"]
    named = ["--checkpoints", *(tmp_path / f"checkpoint-{step}" for step in (6, 12))]
    assert call(*words, *named, "--output-dir", tmp_path / "a")[0] == 0
    assert call(*words, "--checkpoints", tmp_path / "checkpoint-*", "--output-dir", tmp_path / "b")[0] == 0
    but = {"config.toml"}
    assert contents(tmp_path / "a", but) == contents(tmp_path / "b", but)


REFUSED = {
    "unknown teacher": (["--teacher", "magic"], ["'magic'", *TEACHERS]),
    "less without checkpoints": (["--teacher", "less"], ["less", "--checkpoints"]),
    "gist with checkpoints": (["--teacher", "gist", *CHECKPOINTS], ["gist takes one model", "2 checkpoints"]),
    "forward with checkpoints": (["--teacher", "forward", *CHECKPOINTS], ["forward takes one model", "2 checkpoints"]),
    "adapter without": (["--teacher", "adapter"], ["without a plain LoRA adapter"]),
    "adapter of another": (["--teacher", "adapter", "--adapter", "adapter-of-another"], ["adapter-of-another", "base"]),
    "adapter nowhere": (["--adapter", "nowhere"], ["nowhere", "a folder that PEFT saved"]),
    "checkpoint missing": (
        ["--teacher", "tracin", "--checkpoints", "run/checkpoint-2", "run/checkpoint-9"],
        ["-9: no"],
    ),
    "glob of nothing": (["--teacher", "tracin", "--checkpoints", "nowhere/*"], ["nowhere/*: no such folder"]),
    "checkpoint a file": (["--teacher", "tracin", "--checkpoints", "pool.jsonl"], ["pool.jsonl: no such folder"]),
    "checkpoint empty": (["--teacher", "tracin", "--checkpoints", "empty"], ["empty: cannot be loaded"]),
    "rates of some": (["--teacher", "tracin", *CHECKPOINTS[:2], "empty"], ["checkpoint-2", "empty", "trainer_state"]),
    "no optimizer": (["--teacher", "less", "--checkpoints", "decoder"], ["optimizer.safetensors", "tracin"]),
    "no such shard": (["--shard", "0/2"], ["'0/2'", "as in 2/8"]),
    "shard too high": (["--shard", "3/2"], ["'3/2'", "as in 2/8"]),
    "shard of words": (["--shard", "x"], ["'x'", "as in 2/8"]),
    "shard of three": (["--shard", "1/2/3"], ["'1/2/3'", "as in 2/8"]),
    "overwrite and shard": (["--shard", "1/2", "--overwrite"], ["--overwrite", "other shards"]),
    "modules of none": (["--modules", "*.nothing.*"], ["--modules '*.nothing.*'", "model.layers.0.self_attn.q_proj"]),
    "rank 0": (["--rank", "0"], ["rank is 0"]),
    "damping 0": (["--teacher", "logra", "--damping", "0"], ["damping is 0"]),
    "width of lorif": (["--teacher", "lorif", "--width", "64"], ["width 0"]),
    "too small a pool": (["--teacher", "ekfac", "--pool", "two.jsonl"], ["2 given", "at least 4"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_features_that_are_refused(call, tmp_path, case):
    words, told = REFUSED[case]
    rows = ROWS[:2] if "--pool" in words else ROWS
    result = call("features", "--decoder", "decoder", *rows, *words, "--output-dir", tmp_path / "new")
    refused(result, *told)
    assert not (tmp_path / "new" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("rank", "count"), [("x", "2"), ("", "4"), ("1", ""), ("2", "2"), ("0", "0"), ("-1", "2"), ("5", "2")]
)
def test_launchers_that_make_no_sense(monkeypatch, rank, count):
    """Half the work would be left out, or all of it."""
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", count)
    with pytest.raises(ConfigError, match=f"RANK={rank} and WORLD_SIZE={count},.*--shard"):
        Share.read(None)
    assert Share.read("2/8") == Share(1, 8)


def test_launchers(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert Share.read(None) == Share(0, 1)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert Share.read(None) == Share(3, 4)


OTHERS = {
    "no checkpoints": (["--decoder", "decoder"], ["2 checkpoints", "--checkpoints"]),
    "one of them": (["--decoder", "decoder", *CHECKPOINTS[:2]], ["other checkpoints", "checkpoints.1"]),
    "of another run": (
        ["--decoder", "decoder", "--checkpoints", "other-run/checkpoint-2", "other-run/checkpoint-4"],
        ["other checkpoints", "checkpoints.0.decoder"],
    ),
    "another decoder": (["--decoder", "other", *CHECKPOINTS], ["decoder with decoder", "Give that decoder"]),
    "no decoder": (CHECKPOINTS, ["--checkpoints", "--decoder"]),
    "adapter alone": (["--adapter", "adapter"], ["--adapter", "--decoder"]),
}


@pytest.mark.parametrize("verb", ["search", "evaluate"])
@pytest.mark.parametrize("case", OTHERS)
def test_another_teacher_than_the_features_had(made, call, tmp_path, verb, case):
    folder, (words, told) = made("tracin"), OTHERS[case]
    place = {
        "search": ["--index", folder / "index", "--queries", "queries.jsonl"],
        "evaluate": [
            "--encoder",
            folder / "encoder",
            "--features",
            features_of_the_test(call, "tracin"),
            "--output-dir",
            tmp_path,
        ],
    }
    refused(call(verb, *place[verb], *words), *told)
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_for_an_encoder_that_had_none(made, call):
    for name in ("gradient-cosine", "repsim"):
        where = ["--index", made(name) / "index", "--queries", "queries.jsonl"]
        refused(call("search", *where, "--decoder", "decoder", *CHECKPOINTS), "checkpoints")


@pytest.mark.parametrize(("earlier", "now"), [("logra", "trackstar"), ("logra", "repsim"), ("repsim", "logra")])
def test_features_of_another_teacher_are_not_gone_on_with(made, call, tmp_path, earlier, now):
    shutil.copytree(made(earlier) / "features", tmp_path / "features")
    for more in (["--resume"], ["--shard", "2/2"]):
        words = ["--decoder", "decoder", *teaching(now), *ROWS, "--output-dir", tmp_path / "features", *more]
        refused(call("features", *words), f"'{earlier}' there, '{now}' now", "--overwrite")


def data_of(folder):
    """What a shared job leaves, but for the files that each process writes of itself."""
    kept = {name: data for name, data in contents(folder).items() if not name.startswith("metrics")}
    return {name: data for name, data in kept.items() if name != "config.toml"}


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def flip(path):
    data = bytearray(path.read_bytes())
    data[-100] ^= 64
    path.write_bytes(data)


@pytest.mark.parametrize("verb", ["features", "distill", "evaluate"])
@pytest.mark.parametrize("damage", [cut, flip, Path.unlink, lambda path: path.write_bytes(b"")])
def test_damaged_curvature(made, call, tmp_path, verb, damage):
    folder, features = made("logra"), tmp_path / "features"
    shutil.copytree(features_of_the_test(call, "logra") if verb == "evaluate" else folder / "features", features)
    damage(features / "teacher.safetensors")
    words = {
        "features": [*decoder_of("logra"), *teaching("logra"), *ROWS, "--output-dir", features, "--resume"],
        "distill": ["--features", features, "--output-dir", tmp_path / "new"],
        "evaluate": ["--encoder", folder / "encoder", "--features", features, "--output-dir", tmp_path / "new"],
    }
    decoder = ["--decoder", "decoder"] if verb == "evaluate" else []
    result = call(verb, *words[verb], *decoder)
    if verb == "features" and damage is Path.unlink:  # it is learnt again
        assert result[0] == 0
        assert data_of(features) == data_of(folder / "features")
    else:
        refused(result, "teacher.safetensors" if verb != "features" or damage is not flip else "made_by.teacher.fitted")
        assert not (tmp_path / "new").exists()


def test_words_without_numbers_stop_the_self_check(call, tmp_path):
    rows = tmp_path / "rome.jsonl"
    rows.write_bytes(b"\n".join(orjson.dumps({"prompt": f"Rome {n}? ", "completion": "yes"}) for n in range(6)))
    sides = ["--queries", rows, "--pool", rows]
    for words in (["self-check"], ["features", "--output-dir", tmp_path / "out"]):
        result = call(*words, "--decoder", "nan-word", *sides, *SAME, "--width", "64")
        refused(result, "nan-word: the self-check failed: 2 of 2 gradients are not finite, '")
    assert not (tmp_path / "out" / "metrics.json").exists()


@pytest.mark.parametrize("verb", ["self-check", "features"])
def test_weights_without_numbers_are_refused(call, tmp_path, verb):
    output = ["--output-dir", tmp_path / "out"] if verb == "features" else []
    refused(call(verb, "--decoder", "nan", *ROWS, *SAME, "--width", "64", *output), "nan", "not finite")


def test_self_check(call):
    words = ["self-check", "--decoder", "decoder", *ROWS, *SAME, "--teacher", "logra"]
    status, out, _ = call(*words, "--json")
    found = orjson.loads(out)
    assert status == 0
    assert found["self_check"] == {
        "examples": 2,
        "layers": 7,
        "error": pytest.approx(0, abs=1e-5),
        "cosine": pytest.approx(1, abs=1e-5),
        "bf16_cosine": None,
    }
    assert set(found["reliability"]) == {"seeds", "sketched", "projected", "precision"}
    assert 0 < found["reliability"]["seeds"] < 1
    status, out, _ = call(*words)
    assert status == 0
    assert "Gradients of 7 layers, 2 examples in a batch: at most " in " ".join(out.split())
    assert f"│ another seed       │ {found['reliability']['seeds']:.3f} │" in out


def test_teachers_are_listed(call):
    status, out, err = call("teachers")
    assert (status, err) == (0, "")
    assert [line.split("│")[1].split() for line in out.splitlines() if line.startswith("│")] != []
    assert {line.split("│")[1].strip() for line in out.splitlines() if line.startswith("│")} >= set(TEACHERS)


def test_whole_jobs_and_shares_keep_out_of_each_others_way(tmp_path):
    with claim(tmp_path, share=Share(0, 2)):
        with claim(tmp_path, share=Share(1, 2)):
            pass
        for choice in ({"resume": True}, {"overwrite": True}, {"share": Share(1, 3)}, {"share": Share(0, 2)}):
            with pytest.raises(StoreError, match="another run is writing"), claim(tmp_path, **choice):
                pass
    with claim(tmp_path), pytest.raises(StoreError, match="another run is writing"), claim(tmp_path, share=Share(0, 2)):
        pass
    (tmp_path / ".lock-1-of-2").touch()  # of a writer that was killed
    with claim(tmp_path):
        pass


def test_half_written_folder_in_a_half_written_folder_is_removed(tmp_path):
    inner = tmp_path / "checkpoint-2.tmp-1" / "trainer_state.json.tmp-1"
    inner.parent.mkdir()
    inner.touch()
    with claim(tmp_path, resume=True):
        assert [one.name for one in tmp_path.iterdir() if one.name != ".lock"] == []


def succeed(processes):
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err or out


def test_two_processes_share_a_job(call, tmp_path):
    words = ["features", *MANY, "--teacher", "gist"]
    assert call(*words, "--output-dir", tmp_path / "alone")[0] == 0
    shared = [*map(str, words), "--output-dir", str(tmp_path / "shared")]
    succeed([Fork(command, *shared, "--shard", f"{n}/2") for n in (1, 2)])
    assert data_of(tmp_path / "shared") == data_of(tmp_path / "alone")
    assert {"pool/shard-00001.safetensors", "teacher.safetensors"} <= set(data_of(tmp_path / "shared"))
    config = tomllib.loads((tmp_path / "shared" / "config.toml").read_text(encoding="utf-8"))
    assert "shard" not in config  # run again, it makes the whole
    assert sorted(path.name for path in (tmp_path / "shared").glob("*metrics*")) == [
        "metrics-1-of-2.json",
        "metrics-2-of-2.json",
    ]


def test_a_launcher_shares_a_job(call, tmp_path):
    words = ["features", *MANY]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # what the launcher gives each of its processes; sums round by it
    try:
        assert call(*words, "--output-dir", tmp_path / "alone")[0] == 0
    finally:
        torch.set_num_threads(threads)
    # Forks of torchrun, which need not import what they work with.
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--start-method", "fork"]
    launch = [*torchrun, "--run-path", str(Path(influcoder.__file__).with_name("__main__.py")), *words]
    succeed([Fork(module, *launch, "--output-dir", str(tmp_path / "shared"))])
    assert data_of(tmp_path / "shared") == data_of(tmp_path / "alone")
    assert (tmp_path / "shared" / "metrics-2-of-2.json").exists()


def test_the_first_share_leaves_an_unfinished_store(call, tmp_path):
    words = ["features", *MANY, "--output-dir", tmp_path / "features"]
    status, out, _ = call(*words, "--shard", "1/2", "--json")
    assert (status, orjson.loads(out)["unfinished"]) == (0, ["pool"])
    distilled = call("distill", "--features", tmp_path / "features", "--output-dir", tmp_path / "encoder")
    refused(distilled, "features/pool: unfinished", "--resume")
    assert not (tmp_path / "encoder").exists()
    refused(call(*words), "not empty", "--resume")
    assert call("run", tmp_path / "features" / "config.toml", "--resume")[0] == 0
    assert call("distill", "--features", tmp_path / "features", "--output-dir", tmp_path / "encoder")[0] == 0


def test_environment_of_a_launcher_is_enough(call, tmp_path, monkeypatch):
    words = ["features", *MANY, "--output-dir", tmp_path / "features", "--json"]
    monkeypatch.setenv("WORLD_SIZE", "2")
    unfinished = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        status, out, _ = call(*words)
        assert status == 0
        unfinished.append(orjson.loads(out)["unfinished"])
    assert unfinished == [["pool"], []]
    assert os.listdir(tmp_path / "features").count("metrics.json") == 0
