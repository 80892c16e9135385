"""The commands of two how-to pages, run one after the other as a reader would, in this process."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import orjson
import pytest

PAGES = Path(__file__).parents[2] / "docs" / "how-to"


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", (PAGES / page).read_text(), flags=re.S | re.M)


@pytest.fixture
def read(call):
    """Runs the commands of a page in the present folder."""

    def run(page):
        for line in "".join(blocks(page, "bash")).splitlines():
            words = shlex.split(line)
            if words[0] == "influcoder":
                status, _, err = call(*words[1:])
                assert status == 0, err
            else:
                subprocess.run(words, check=True, capture_output=True)

    return run


def test_select(chain, read, tmp_path, monkeypatch):
    for name in ("index", "decoder"):
        shutil.copytree(chain / name, tmp_path / name)
    for path in chain.glob("*.jsonl"):
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    read("select.md")
    kept = {path.parent.name: len(path.read_bytes().splitlines()) for path in tmp_path.glob("*/kept.jsonl")}
    assert kept == {"best": 4, "without-worst": 38, "contrast": 10, "mixed": 10, "masked": 10, "other": 5}
    said = {}
    for code in blocks("select.md", "python"):
        exec(code, said)
    assert said["rows"].column_names == ["id", "question", "answer", "source"]
    assert orjson.loads((tmp_path / "mixed" / "metrics.json").read_bytes())["by"]["source"]["books"]["kept"] >= 2


def test_audit(chain, read, tmp_path, monkeypatch):
    shutil.copytree(chain, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    read("audit.md")
    assert (tmp_path / "audit" / "audit.html").is_file()
    assert (tmp_path / "run" / "audit" / "audit.sig").is_file()
