"""Data sets of the hub by their id, with a stand-in for `datasets`."""

import sys
from types import SimpleNamespace

import pytest

from influcoder.data.preview import preview
from influcoder.data.reading import read_examples
from influcoder.data.row_files import find_files
from influcoder.errors import DataError

ROWS = [{"id": f"r{number}", "prompt": f"q{number}", "completion": "a"} for number in range(20)]


@pytest.fixture
def hub(monkeypatch):
    """A hub of one data set; what it was asked for."""
    asked = []

    def load_dataset(name, config, *, split, streaming):
        asked.append((name, config, split, streaming))
        if name != "org/data":
            raise FileNotFoundError(f"no {name} there")
        return iter(ROWS)

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset, __spec__=object()))
    return asked


@pytest.mark.parametrize(
    ("given", "config", "split"),
    [("org/data", None, "train"), ("org/data:en", "en", "train"), ("org/data::test", None, "test")],
)
def test_rows_are_streamed_by_id(hub, given, config, split):
    assert [one.id for one in read_examples(given)] == [row["id"] for row in ROWS]
    assert hub == [("org/data", config, split, True)]


def test_files_of_that_name_come_first(hub, tmp_path, monkeypatch):
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "data.jsonl").write_text('{"id": "mine", "text": "a"}')
    monkeypatch.chdir(tmp_path)
    assert [one.id for one in read_examples("org/data.jsonl")] == ["mine"]
    assert hub == []


def test_a_preview_counts_and_draws(hub):
    found = preview(["org/data:en:test"], 5)
    assert (found.rows, len(found.sample)) == (20, 5)


def test_what_the_hub_has_not_got(hub):
    with pytest.raises(
        DataError, match=r"org/other: no such file, and not read from the hub: no org/other there\. HF_HUB"
    ):
        read_examples("org/other")


def test_without_datasets_a_wrong_path_is_still_told(monkeypatch):
    monkeypatch.setattr("influcoder.extras.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"org/data: no such file, .*pip install 'influcoder\[datasets\]'"):
        read_examples("org/data")


@pytest.mark.parametrize("path", ["data/none.jsonl", "none", "a/b/c", "some folder/rows", "org/*"])
def test_no_id_of_the_hub(path):
    with pytest.raises(DataError, match="no such file"):
        find_files(path)
