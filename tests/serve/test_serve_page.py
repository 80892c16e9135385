"""The lines of docs/how-to/serve.md do what the page says."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/how-to/serve.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8765"


def blocks(language, url):
    return [block.replace(ADDRESS, url) for block in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)]


def test_curl_lines(served_with_decoder, tmp_path):
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "no_proxy": "*"}
    told = []
    for block in blocks("bash", served_with_decoder.url):
        if (
            "/events" in block
        ):  # the page's re-check, of a tiny model, would be done before it is watched: it waits here
            for number in range(6):
                question = {"prompt": f"Which is city number {number}?", "completion": "Paris"}
                waiting = {"verify": 30, "certify": 30, "tokens": True}
                assert served_with_decoder.post("verify", question | waiting).status_code == 202
        command = ["bash", "-euc", block]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stderr
        told.append(done.stdout)
    assert len(told) == 3
    decoder, found = json.JSONDecoder(), []
    while told[0].strip():
        value, end = decoder.raw_decode(told[0].lstrip())
        found.append(value)
        told[0] = told[0].lstrip()[end:]
    search, score, rows, original, provenance = found
    assert len(search["proponents"]) == 3
    assert len(score["listed"]) == 5
    assert "Paris" in rows["rows"][0]["prompt"] + rows["rows"][0]["completion"]
    assert set(original) == {"id", "prompt", "completion", "genre", "length"}
    assert provenance["rows"] == 60
    assert "event: progress" in told[1]
    assert "event: done" in told[1]
    assert json.loads(told[2])["detail"].startswith("--where colour: ")


def test_python_lines(served_with_decoder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    said = {}
    for block in blocks("python", served_with_decoder.url):
        exec(block, said)
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert len(said["lit"]["rows"]) == 3
    assert 0 < len((tmp_path / "kept.jsonl").read_text().splitlines()) < 60
    assert (tmp_path / "everything.parquet").stat().st_size > 0


def test_the_attacks_are_tested_where_the_page_says():
    named = set(re.findall(r"\| `(test_\w+\.py)` \|", PAGE))
    assert len(named) == 4
    assert all((Path(__file__).parent / name).exists() for name in named)
