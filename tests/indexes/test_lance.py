"""An index in LanceDB: what is found there is what is found here."""

import lancedb
import numpy as np
import pytest

from helpers.commands import refused
from helpers.sentences import as_rows, sentences, write_jsonl
from helpers.tiny_encoders import save_encoder
from influcoder import extras
from influcoder.data.examples import Example
from influcoder.errors import ConfigError, MissingDependency, StoreCorrupt, StoreError, StoreMismatch
from influcoder.indexes import build as indexing
from influcoder.indexes import lance as exporting
from influcoder.indexes.index import Index
from influcoder.indexes.lance import LanceIndex, export, open_index
from influcoder.store.output_folder import Folder
from influcoder.student.encoder import InfluenceEncoder
from influcoder.verbs.search import search

ROWS = 300


def tagged():
    """Sentences with metadata: a name with a space and a quote, a number that some lack, one key of two kinds."""
    for number, one in enumerate(sentences(ROWS, 3, "x")):
        found = {
            "it's a genre": ["code", "o'hara"][number % 2],
            "long": number > 9,
            "kind": number if number < 64 else "k",
        }
        yield Example(one.id, one.prompt, one.completion, one.turns, found | ({"n.o": number} if number % 3 else {}))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory, tokenizer):
    return save_encoder(tmp_path_factory.mktemp("static"), tokenizer)[0]


@pytest.fixture(scope="module", params=["float16", "int4"])
def here(request, tmp_path_factory, encoder):
    folder = tmp_path_factory.mktemp("index") / "index"
    indexing.build(InfluenceEncoder.load(encoder), tagged(), folder, code=request.param, shard_rows=64)
    return Index(folder)


@pytest.fixture(scope="module")
def there(here):
    place = here.folder.parent
    export(here, str(place / "db"), Folder(place / "out"))
    return open_index(place / "out")


@pytest.fixture(scope="module")
def queries(here):
    return here.encoder.encode_query(sentences(7, 50, "q"))


@pytest.mark.parametrize("k", [1, 10, ROWS, ROWS + 5])
@pytest.mark.parametrize("opponents", [False, True])
def test_the_same_rows_are_found(here, there, queries, k, opponents):
    mine, its = (index.search(queries, k, opponents=opponents) for index in (here, there))
    assert isinstance(there, LanceIndex)
    assert len(there) == ROWS
    np.testing.assert_allclose(its.scores, mine.scores, atol=1e-5)
    distinct = np.abs(np.diff(mine.scores, axis=1, prepend=np.inf, append=-np.inf))
    apart = (distinct[:, 1:] > 1e-4) & (distinct[:, :-1] > 1e-4)
    assert apart.mean() > 0.5
    np.testing.assert_array_equal(its.rows[apart], mine.rows[apart])


@pytest.mark.parametrize("row", [0, 63, 64, ROWS - 1])
def test_examples_are_whole(here, there, row):
    assert there.example(row) == here.example(row) == list(tagged())[row]


FILTERS = ["it's a genre=code", "it's a genre!=code", "it's a genre=o'hara,n.o<100", "long=false", "n.o>=200,long=true"]


@pytest.mark.parametrize("where", FILTERS)
def test_filters_leave_the_same_rows(here, there, queries, where):
    mine, its = (index.search(queries, ROWS, where=where) for index in (here, there))
    assert 0 < mine.rows.shape[1] < ROWS
    assert np.array_equal(np.sort(its.rows), np.sort(mine.rows))


def test_filter_that_no_row_fits(here, there, queries):
    mine, its = (index.search(queries, 5, where="n.o>9000") for index in (here, there))
    assert its.rows.shape == mine.rows.shape == (7, 0)


@pytest.mark.parametrize("where", ["n.o=code", "long=3", "it's a genre<x", "other=1", "kind<3", "a' OR '1'='1"])
def test_filters_that_mean_nothing_are_refused(there, queries, where):
    with pytest.raises(ConfigError, match="--where"):
        there.search(queries, 5, where=where)


def test_key_of_two_kinds_is_text_there(there, queries):
    assert there.search(queries, ROWS, where="kind=k").rows.shape[1] == ROWS - 64


def test_search_verb_asks_either(here, there):
    asked = sentences(3, 60, "asked")
    mine, its = (search(index, asked, k=5, opponents=False, verify=0, decoder=None) for index in (here, there))
    assert [[hit.example.id for hit in hits] for hits in its] == [[hit.example.id for hit in hits] for hits in mine]
    assert [hits.trust for hits in its] == [hits.trust for hits in mine]


def test_lances_own_index(tmp_path, encoder):
    rng, folder = np.random.default_rng(0), tmp_path / "index"
    words = np.array(["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"])
    many = [Example(f"{n}", "count ", " ".join(rng.choice(words, 12))) for n in range(3020)]
    indexing.build(InfluenceEncoder.load(encoder), many[20:], folder)
    here = Index(folder)
    facts = export(here, str(tmp_path / "db"), Folder(tmp_path / "out"), approximate=True)
    *_, recall = facts["recall_at_10"].values()
    assert recall >= 0.9
    there = LanceIndex(tmp_path / "out")
    queries = here.encoder.encode_query(many[:20])
    mine, its = here.search(queries, 10), there.search_approximately(queries, 10)
    assert np.mean(its.scores >= mine.scores[:, -1:] - 1e-5) > 0.7
    assert np.all(its.scores <= mine.scores + 1e-5)
    np.testing.assert_allclose(there.search(queries, 10).scores, mine.scores, atol=1e-5)


def test_refusals(here, there, queries, monkeypatch):
    with pytest.raises(StoreMismatch, match=r"exported without --approximate"):
        there.search_approximately(queries, 5)
    with pytest.raises(ConfigError, match="k is 0"):
        there.search(queries, 0)
    with pytest.raises(ConfigError, match=r"expected \(n, "):
        there.search(queries[:, :3], 5)

    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    with pytest.raises(MissingDependency, match=r"pip install 'influcoder\[lance\]'"):
        LanceIndex(there.folder)


def test_table_that_changed_or_went_is_refused(here, tmp_path):
    place = tmp_path / "db"
    export(here, str(place), Folder(tmp_path / "out"), table="rows")
    table = lancedb.connect(place).open_table("rows")
    table.delete("row = 3")
    with pytest.raises(StoreMismatch, match=r"table 'rows' has 299 rows .*exported with 300 .*Export the index again"):
        LanceIndex(tmp_path / "out")
    lancedb.connect(place).drop_table("rows")
    with pytest.raises(StoreError, match=r"db: LanceDB cannot do that: .*rows"):
        LanceIndex(tmp_path / "out")
    record = tmp_path / "out" / exporting.RECORD
    record.write_bytes(record.read_bytes().replace(b"300", b"301"))
    with pytest.raises(StoreCorrupt, match=r"lance\.json"):
        LanceIndex(tmp_path / "out")


def test_stopped_export_leaves_no_record_and_no_half_table(here, tmp_path, monkeypatch):
    def some(*arguments):
        yield next(batches(*arguments))
        raise KeyboardInterrupt

    batches = exporting._batches
    monkeypatch.setattr(exporting, "_batches", some)
    with pytest.raises((KeyboardInterrupt, StoreError)):
        export(here, str(tmp_path / "db"), Folder(tmp_path / "out"))
    assert not (tmp_path / "out" / exporting.RECORD).exists()
    with pytest.raises(ValueError, match="not found"):
        lancedb.connect(tmp_path / "db").open_table("influcoder")
    monkeypatch.undo()
    export(here, str(tmp_path / "db"), Folder(tmp_path / "out", overwrite=True))
    assert len(LanceIndex(tmp_path / "out")) == ROWS


def test_command_line(call, here, tmp_path):
    out = tmp_path / "out"
    status, said, _ = call("export", "--index", here.folder, "--lance", tmp_path / "db", "--output-dir", out)
    assert status == 0
    assert "rows: 300" in said
    asked = ["--prompt", "1 plus", "--completion", "2 is four", "--json"]
    mine, its = (call("search", "--index", folder, *asked) for folder in (here.folder, out))
    assert its[0] == 0
    assert its[1][:200] == mine[1][:200]
    for verb in ("score", "export"):
        words = ["--queries", tmp_path / "q.jsonl"] if verb == "score" else ["--lance", tmp_path / "db"]
        write_jsonl(tmp_path / "q.jsonl", as_rows(sentences(2, 1, "q")))
        found = call(verb, "--index", out, *words, "--output-dir", tmp_path / "again")
        refused(found, "its rows are in LanceDB", "the index it was exported from")
