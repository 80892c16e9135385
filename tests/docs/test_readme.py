"""The Python of the README does what it says."""

import gzip
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from helpers.sentences import as_rows, sentences, write_jsonl
from helpers.tiny import save_decoder

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_the_example_runs(tmp_path, tokenizer, monkeypatch):
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line]) == 5
    save_decoder(tmp_path / "DECODER", tokenizer)
    write_jsonl(tmp_path / "queries.jsonl", as_rows(sentences(20, 1, "q")))
    write_jsonl(tmp_path / "target.jsonl", as_rows(sentences(4, 2, "t")))
    pq.write_table(pa.Table.from_pylist(as_rows(sentences(30, 3, "s"))), tmp_path / "sample.parquet")
    (tmp_path / "corpus").mkdir()
    rows = [{"question": one.prompt, "answer": one.completion, "n": n} for n, one in enumerate(sentences(40, 4, "c"))]
    write_jsonl(tmp_path / "corpus" / "rows.jsonl", rows)
    plain = tmp_path / "corpus" / "rows.jsonl"
    (tmp_path / "corpus" / "rows.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    monkeypatch.chdir(tmp_path)
    said = {}
    exec(code, said)
    assert len(said["hits"]) == 10
    assert said["kept"].column_names == ["question", "answer", "n"]
    assert [row in rows for row in said["kept"]] == [True, True]
