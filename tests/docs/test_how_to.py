"""The commands of two how-to pages, run one after the other as a reader would, in this process."""

import shutil

import orjson

from helpers.pages import blocks, follow


def test_select(chain, call, tmp_path, monkeypatch):
    for name in ("index", "decoder"):
        shutil.copytree(chain / name, tmp_path / name)
    for path in chain.glob("*.jsonl"):
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    follow("how-to/select.md", call)
    kept = {path.parent.name: len(path.read_bytes().splitlines()) for path in tmp_path.glob("*/kept.jsonl")}
    ranked = {"best": 4, "chosen": 4, "without-worst": 38}
    assert kept == ranked | {"contrast": 10, "mixed": 10, "masked": 10, "other": 5}
    said = {}
    for code in blocks("how-to/select.md", "python"):
        exec(code, said)
    assert said["rows"].column_names == ["id", "question", "answer", "source"]
    assert orjson.loads((tmp_path / "mixed" / "metrics.json").read_bytes())["by"]["source"]["books"]["kept"] >= 2


def test_audit(chain, call, tmp_path, monkeypatch):
    shutil.copytree(chain, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    follow("how-to/audit.md", call)
    assert (tmp_path / "audit" / "audit.html").is_file()
    assert (tmp_path / "run" / "audit" / "audit.sig").is_file()
