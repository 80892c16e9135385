import gzip
import json
import math
import os
import random
import tracemalloc
from dataclasses import replace

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from influcoder.data.examples import Example, content_id
from influcoder.data.messages import RowError
from influcoder.data.parts import Columns
from influcoder.data.reading import read_examples, stream_examples
from influcoder.data.row_files import find_files
from influcoder.errors import ConfigError, DataError

CHAT_ROW = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
ROWS = [
    {"id": "one", "prompt": "q1", "completion": "a1"},
    {"id": "two", "prompt": "q2", "completion": "ünïcode 日本 🙂"},
    {"id": "three", "prompt": "q3", "completion": "a\u2028b\u2029c\x85d\x0be\r\nf\tg"},
]
EXPECTED = [Example(row["id"], row["prompt"], row["completion"]) for row in ROWS]
TEXT_SUFFIXES = ["jsonl", "ndjson", "jsonl.gz", "jsonl.zst"]
ALL_SUFFIXES = [*TEXT_SUFFIXES, "parquet"]
GOOD = b'{"text": "good"}\n'


def jsonl(rows):
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def packed(data, suffix):
    if suffix.endswith(".gz"):
        return gzip.compress(data)
    if suffix.endswith(".zst"):
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, "zstd") as stream:
            stream.write(data)
        return sink.getvalue().to_pybytes()
    return data


def write_rows(folder, rows, suffix, stem="data"):
    path = folder / f"{stem}.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_bytes(packed(jsonl(rows), suffix))
    return path


def write_bytes(folder, data, suffix="jsonl"):
    path = folder / f"data.{suffix}"
    path.write_bytes(packed(data, suffix))
    return path


@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
def test_every_kind_of_file(tmp_path, suffix):
    path = write_rows(tmp_path, ROWS, suffix)
    assert read_examples(path) == EXPECTED
    assert read_examples(str(path)) == EXPECTED


@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
def test_chats_in_every_kind_of_file(tmp_path, suffix):
    (example,) = read_examples(write_rows(tmp_path, [CHAT_ROW], suffix))
    assert (example.turns, example.completion) == ((("user", "q"),), "a")


@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
def test_many_rows(tmp_path, suffix):
    rows = [{"id": number, "text": f"text {number}"} for number in range(3000)]
    assert [one.id for one in read_examples(write_rows(tmp_path, rows, suffix))] == [str(n) for n in range(3000)]


def test_folder_glob_and_list(tmp_path):
    for row, suffix in zip(ROWS, ["jsonl", "parquet", "jsonl.gz"], strict=True):
        write_rows(tmp_path, [row], suffix, stem=f"part-{row['id']}")
    (tmp_path / "README.md").write_text("not data")
    by_name = sorted(EXPECTED, key=lambda one: one.id)
    assert read_examples(tmp_path) == by_name
    assert read_examples(str(tmp_path / "part-*")) == by_name
    files = [tmp_path / "part-one.jsonl", tmp_path / "part-three.jsonl.gz"]
    assert read_examples(files) == [EXPECTED[0], EXPECTED[2]]
    assert read_examples(list(map(str, files))) == [EXPECTED[0], EXPECTED[2]]


def test_datasets_and_plain_rows():
    assert read_examples(datasets.Dataset.from_list(ROWS)) == EXPECTED
    assert read_examples(datasets.Dataset.from_list(ROWS).to_iterable_dataset()) == EXPECTED
    assert read_examples(ROWS) == EXPECTED
    assert read_examples(iter(ROWS)) == EXPECTED
    assert read_examples(EXPECTED) == EXPECTED


def test_datasets_with_chats():
    (example,) = read_examples(datasets.Dataset.from_list([CHAT_ROW]))
    assert example.turns == (("user", "q"),)


def test_columns_are_handed_on(tmp_path):
    path = write_rows(tmp_path, [{"ask": "q", "say": "a", "key": 3}], "jsonl")
    assert read_examples(path, columns=Columns("ask", "say", id="key")) == [Example("3", "q", "a")]


def test_missing_ids_depend_on_content_alone(tmp_path):
    texts = ["a", "b", "c"]
    one = read_examples(write_rows(tmp_path, [{"text": text} for text in texts], "jsonl", "x"))
    other = read_examples(write_rows(tmp_path, [{"text": text} for text in reversed(texts)], "parquet", "y"))
    assert {e.completion: e.id for e in one} == {e.completion: e.id for e in other}
    assert one[0].id == content_id(one[0])


def test_repeated_texts_get_numbers():
    name = content_id(Example("", "", "a"))
    assert [e.id for e in read_examples([{"text": "a"}] * 3)] == [name, f"{name}-2", f"{name}-3"]


def test_duplicate_ids_are_refused(tmp_path):
    path = write_rows(tmp_path, [{"id": "x", "text": "a"}, {"id": "x", "text": "b"}], "jsonl")
    with pytest.raises(DataError, match=r"data\.jsonl:2: id 'x' occurs twice"):
        read_examples(path)


def test_number_and_text_of_the_same_id_are_duplicates():
    with pytest.raises(DataError, match="row 2: id '1' occurs twice"):
        read_examples([{"id": 1, "text": "a"}, {"id": "1", "text": "b"}])


def test_duplicate_ids_across_files(tmp_path):
    for stem in "ab":
        write_rows(tmp_path, [{"id": "x", "text": stem}], "jsonl", stem)
    with pytest.raises(DataError, match=r"b\.jsonl:1: id 'x'"):
        read_examples(tmp_path)


MIDDLE = [
    ("broken", b'{"text": "a\n'),
    ("not json", b"hello\n"),
    ("latin-1", '{"text": "caf\u00e9"}\n'.encode("latin-1")),
    ("cut utf-8", b'{"text": "\xe6\x97"}\n'),
    ("NUL bytes", b"\x00\x00\x00\n"),
    ("lone surrogate", b'{"text": "a\\ud800"}\n'),
    ("NaN where text is due", b'{"text": NaN}\n'),
    ("NaN and a cut end", b'{"score": NaN, "text": "a\n'),
    ("NaN in a deep line", b"[" * 100_000 + b"NaN\n"),
    ("two objects", b'{"text": "a"} {"text": "b"}\n'),
    ("trailing comma", b'{"text": "a",}\n'),
    ("deep", b"[" * 100_000 + b"\n"),
    ("number", b'{"text": 5}\n'),
    ("null text", b'{"text": null}\n'),
    ("blank text", b'{"text": "  "}\n'),
    ("missing column", b'{"prompt": "q"}\n'),
    ("unknown layout", b'{"body": "q"}\n'),
    ("preference", b'{"prompt": "q", "chosen": "a", "rejected": "b"}\n'),
    ("unknown role", b'{"messages": [{"role": "human", "content": "q"}]}\n'),
    ("empty messages", b'{"messages": []}\n'),
    ("image", b'{"messages": [{"role": "assistant", "content": [{"type": "image", "url": "q"}]}]}\n'),
    ("bool id", b'{"text": "a", "id": true}\n'),
    ("float id", b'{"text": "a", "id": 1.5}\n'),
    ("huge id", b'{"text": "a", "id": 123456789012345678901234567890}\n'),
    ("array", b'["a"]\n'),
    ("string", b'"a"\n'),
    ("null", b"null\n"),
    ("second BOM", b'\xef\xbb\xbf{"text": "a"}\n'),
]


@pytest.mark.parametrize("suffix", TEXT_SUFFIXES)
@pytest.mark.parametrize("line", [line for _, line in MIDDLE], ids=[name for name, _ in MIDDLE])
def test_unusable_line_is_named(tmp_path, line, suffix):
    path = write_bytes(tmp_path, GOOD + line + b'{"text": "after"}\n', suffix)
    with pytest.raises(DataError) as caught:
        read_examples(path)
    assert str(caught.value).startswith(f"{path}:2: ")


@pytest.mark.parametrize("line", [line for _, line in MIDDLE], ids=[name for name, _ in MIDDLE])
def test_unusable_line_is_skipped_and_kept(tmp_path, line):
    path = write_bytes(tmp_path, GOOD + line + b'{"text": "after"}\n')
    rejects = tmp_path / "rejects"
    found = read_examples(path, on_error="skip", rejects=rejects, max_reject_rate=0.5)
    assert [one.completion for one in found] == ["good", "after"]
    (entry,) = map(json.loads, rejects.read_text().splitlines())
    assert entry["location"] == f"{path}:2"
    assert set(entry) == {"location", "reason", "detail", "row"}


def test_truncated_last_line(tmp_path):
    path = write_bytes(tmp_path, GOOD * 1 + b'{"text": "cut of')
    with pytest.raises(DataError, match=r"data\.jsonl:2: .*cut of"):
        read_examples(path)


def test_last_line_without_a_newline(tmp_path):
    assert len(read_examples(write_bytes(tmp_path, GOOD + b'{"text": "last"}'))) == 2


def test_blank_lines_count_but_are_no_rows(tmp_path):
    path = write_bytes(tmp_path, b"\n" + GOOD + b"  \r\n\n" + b'{"text": "b"}\n\n')
    assert len(read_examples(path)) == 2
    path = write_bytes(tmp_path, b"\n\n" + GOOD + b"\nbad\n")
    with pytest.raises(DataError, match=r"data\.jsonl:5: "):
        read_examples(path)


@pytest.mark.parametrize("suffix", TEXT_SUFFIXES)
@pytest.mark.parametrize("data", [b"", b"\n", b" \n\r\n\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
def test_file_without_rows(tmp_path, data, suffix):
    path = write_bytes(tmp_path, data, suffix)
    with pytest.raises(DataError, match=rf"{path.name}: no rows"):
        read_examples(path)


@pytest.mark.parametrize("suffix", ["jsonl.gz", "jsonl.zst", "parquet"])
def test_packed_file_of_no_bytes(tmp_path, suffix):
    path = tmp_path / f"data.{suffix}"
    path.write_bytes(b"")
    with pytest.raises(DataError, match=path.name):
        read_examples(path)


@pytest.mark.parametrize("rows", [[], iter([]), datasets.Dataset.from_list([])])
def test_no_rows(rows):
    with pytest.raises(DataError, match="no rows"):
        read_examples(rows)


def test_parquet_without_rows(tmp_path):
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "data.parquet")
    with pytest.raises(DataError, match="no rows"):
        read_examples(tmp_path / "data.parquet")


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b""])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_byte_order_mark_and_windows_newlines(tmp_path, mark, newline):
    path = write_bytes(tmp_path, mark + jsonl(ROWS).replace(b"\n", newline))
    assert read_examples(path) == EXPECTED


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_other_encodings(tmp_path, encoding):
    with pytest.raises(DataError, match=r"data\.jsonl:1: "):
        read_examples(write_bytes(tmp_path, '{"text": "a"}\n'.encode(encoding)))


@pytest.mark.parametrize("name", ["absent.jsonl", "absent", "*.jsonl", "[", "**/*.parquet", "absent/"])
def test_nothing_there(tmp_path, name):
    with pytest.raises(DataError, match="no such file"):
        read_examples(f"{tmp_path}/{name}")


@pytest.mark.parametrize("name", ["a" * 5000 + ".jsonl", "a\0b.jsonl"], ids=["long", "NUL"])
def test_name_that_no_file_can_have(name):
    with pytest.raises(DataError):
        read_examples(name)


def test_home_of_an_unknown_user():
    with pytest.raises(DataError, match="~nouser-of-this-name"):
        read_examples("~nouser-of-this-name/data.jsonl")


@pytest.mark.parametrize("kind", [dict, datasets.DatasetDict])
def test_dictionary_of_splits(kind):
    splits = kind({"train": datasets.Dataset.from_list(ROWS), "test": datasets.Dataset.from_list(ROWS)})
    with pytest.raises(DataError, match=r"\['test', 'train'\].*Choose a split"):
        read_examples(splits)
    assert read_examples(splits["train"]) == EXPECTED


def test_folder_without_data(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=str(tmp_path)):
        read_examples(tmp_path)


@pytest.mark.parametrize("name", ["data.csv", "data.json", "data", "data.jsonl.bz2"])
def test_unknown_suffix(tmp_path, name):
    (tmp_path / name).write_bytes(GOOD)
    with pytest.raises(DataError, match="unknown kind of file"):
        read_examples(tmp_path / name)


def test_rows_are_read_as_they_are_asked_for(tmp_path):
    path = write_bytes(tmp_path, GOOD * 3 + b"{cut")
    stream = stream_examples(path)
    assert [next(stream).completion for _ in range(3)] == ["good"] * 3
    with pytest.raises(DataError, match=r"data\.jsonl:4"):
        next(stream)


def test_parquet_is_not_kept_in_memory(tmp_path):
    noise = random.Random(0)
    rows = [{"text": noise.randbytes(500).hex()} for _ in range(20_000)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data.parquet", row_group_size=500)
    del rows
    tracemalloc.start()
    assert sum(1 for _ in stream_examples(tmp_path / "data.parquet")) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (tmp_path / "data.parquet").stat().st_size / 2


def test_reading_that_is_given_up_leaves_no_rejects(tmp_path):
    path = write_bytes(tmp_path, b"{cut\n" + GOOD * 3)
    stream = stream_examples(path, on_error="skip", rejects=tmp_path / "rejects.jsonl", max_reject_rate=1)
    next(stream)
    stream.close()
    assert os.listdir(tmp_path) == ["data.jsonl"]


def test_name_that_reads_as_a_glob(tmp_path):
    path = write_rows(tmp_path, ROWS, "jsonl", "a[1]*")
    assert find_files(path) == [path]


@pytest.mark.parametrize("suffix", ["jsonl.gz", "jsonl.zst", "parquet"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.98, 0.999])
def test_cut_file(tmp_path, suffix, share):
    rows = [{"id": number, "text": f"{math.sin(number)} text {number}"} for number in range(2000)]
    path = write_rows(tmp_path, rows, suffix)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    for choice in ("fail", "skip"):
        with pytest.raises(DataError, match=path.name):
            read_examples(path, on_error=choice)


@pytest.mark.parametrize("suffix", ["jsonl.gz", "jsonl.zst", "parquet"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.5, 0.8, 0.999])
def test_overwritten_bytes(tmp_path, suffix, share):
    rows = [{"id": number, "text": f"{math.sin(number)} text {number}"} for number in range(2000)]
    path = write_rows(tmp_path, rows, suffix)
    expected = read_examples(path)
    data = bytearray(path.read_bytes())
    place = int((len(data) - 8) * share)
    data[place : place + 8] = b"\xff\x00\xaa\x55\xff\x00\xaa\x55"
    path.write_bytes(data)
    try:
        found = read_examples(path)
    except DataError:
        return
    assert found == expected


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "jsonl.zst", "parquet"])
@pytest.mark.parametrize("content", ["jsonl", "jsonl.gz", "jsonl.zst", "parquet"])
def test_content_of_another_kind(tmp_path, suffix, content):
    data = write_rows(tmp_path, ROWS, content, "source").read_bytes()
    path = tmp_path / f"data.{suffix}"
    path.write_bytes(data)
    if suffix == content:
        assert read_examples(path) == EXPECTED
    else:
        with pytest.raises(DataError, match=path.name):
            read_examples(path)


def test_parquet_of_bad_text(tmp_path):
    buffers = [None, pa.array([0, 2], pa.int32()).buffers()[1], pa.py_buffer(b"\xff\xfe")]
    table = pa.table({"text": pa.Array.from_buffers(pa.string(), 1, buffers)})
    pq.write_table(table, tmp_path / "data.parquet")
    with pytest.raises(DataError, match=r"data\.parquet"):
        read_examples(tmp_path / "data.parquet")


def test_parquet_of_a_date_that_python_has_not(tmp_path):
    table = pa.table({"text": ["a"], "when": pa.array([10**15], pa.timestamp("s"))})
    pq.write_table(table, tmp_path / "data.parquet")
    with pytest.raises(DataError, match=r"data\.parquet"):
        read_examples(tmp_path / "data.parquet")


def test_parquet_row_that_python_cannot_hold_is_skipped_alone(tmp_path):
    table = pa.table({"text": ["a", "b", "c"], "when": pa.array([0, 10**15, 0], pa.timestamp("s"))})
    pq.write_table(table, tmp_path / "data.parquet")
    with pytest.raises(DataError, match=r"data\.parquet:2: a value that Python cannot hold"):
        read_examples(tmp_path / "data.parquet")
    found = read_examples(tmp_path / "data.parquet", on_error="skip", max_reject_rate=0.5)
    assert [one.completion for one in found] == ["a", "c"]


def test_parquet_with_two_columns_of_one_name(tmp_path):
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    pq.write_table(table, tmp_path / "data.parquet")
    with pytest.raises(DataError, match=r"columns \['text'\] occur more than once"):
        read_examples(tmp_path / "data.parquet")


def test_parquet_row_is_named(tmp_path):
    path = write_rows(tmp_path, [{"text": "a"}] * 1500 + [{"text": None}], "parquet")
    with pytest.raises(DataError, match=r"data\.parquet:1501: .*expected text"):
        read_examples(path)


def bad_rows(good, bad):
    return [{"id": f"g{number}", "text": "x"} for number in range(good)] + [{"text": 5}] * bad


def test_skip_within_the_rate():
    assert len(read_examples(bad_rows(99, 1), on_error="skip")) == 99


def test_skip_beyond_the_rate(tmp_path):
    rejects = tmp_path / "rejects.jsonl"
    with pytest.raises(DataError, match=r"2 of 100 rows cannot be used \(not_text: 2\), more than 1\.0%.*row 99"):
        read_examples(bad_rows(98, 2), on_error="skip", rejects=rejects)
    assert [json.loads(line)["location"] for line in rejects.read_text().splitlines()] == ["row 99", "row 100"]


@pytest.mark.parametrize("rate", [0.5, 1.0])
def test_skip_leaves_at_least_one_row(rate):
    with pytest.raises(DataError, match="3 of 3 rows"):
        read_examples(bad_rows(0, 3), on_error="skip", max_reject_rate=rate)


def test_skip_counts_duplicates():
    rows = [{"id": "x", "text": "a"}, {"id": "x", "text": "b"}]
    assert [e.completion for e in read_examples(rows, on_error="skip", max_reject_rate=0.5)] == ["a"]


def test_no_rejects_no_file(tmp_path):
    read_examples(ROWS, on_error="skip", rejects=tmp_path / "rejects.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_rejects_of_every_kind_can_be_written(tmp_path):
    rows = [{"text": "a\ud800"}, {"text": "a", "id": "\udfff"}, {"\ud800": 1}, b"\xff", math.nan, object()]
    rejects = tmp_path / "rejects.jsonl"
    found = read_examples([*rows, *ROWS], on_error="skip", rejects=rejects, max_reject_rate=0.9)
    assert found == EXPECTED
    assert len(rejects.read_text().splitlines()) == len(rows)


def test_rejects_of_a_file_whose_name_is_not_utf8(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jsonl")
    with open(path, "wb") as file:
        file.write(GOOD + b"bad\n")
    found = read_examples(path, on_error="skip", rejects=tmp_path / "rejects", max_reject_rate=0.5)
    assert [one.completion for one in found] == ["good"]
    assert len((tmp_path / "rejects").read_bytes().splitlines()) == 1


def test_example_with_a_lone_surrogate_is_refused():
    with pytest.raises(DataError, match="row 1"):
        read_examples([Example("", "", "a\ud800")])


def test_unknown_on_error():
    with pytest.raises(ConfigError, match="'ignore'"):
        read_examples(ROWS, on_error="ignore")


TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)
@given(
    pairs=st.lists(st.tuples(TEXT, TEXT.filter(str.strip)), min_size=1, max_size=5),
    ascii_only=st.booleans(),
    suffix=st.sampled_from(ALL_SUFFIXES),
)
def test_round_trip(tmp_path, pairs, ascii_only, suffix):
    rows = [{"id": number, "prompt": prompt, "completion": text} for number, (prompt, text) in enumerate(pairs)]
    if suffix == "parquet":
        path = write_rows(tmp_path, rows, suffix)
    else:
        lines = "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows)
        path = write_bytes(tmp_path, lines.encode(), suffix)
    assert [(e.prompt, e.completion) for e in read_examples(path)] == pairs


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.binary(max_size=60), suffix=st.sampled_from([*ALL_SUFFIXES]))
def test_any_bytes_are_read_or_refused(tmp_path, data, suffix):
    path = tmp_path / f"data.{suffix}"
    path.write_bytes(data)
    with pytest.raises(DataError):
        read_examples(path)


@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
@pytest.mark.parametrize("kind", ["no bytes", "no rows"])
@pytest.mark.parametrize("on_error", ["fail", "skip"])
def test_an_empty_part_among_many_is_named_and_passed_over(tmp_path, suffix, kind, on_error, caplog):
    write_rows(tmp_path, ROWS, "jsonl", "part-1")
    empty = tmp_path / f"part-2.{suffix}"
    if suffix == "parquet" and kind == "no rows":
        pq.write_table(pa.table({"text": pa.array([], pa.string())}), empty)
    else:
        empty.write_bytes(b"" if kind == "no bytes" else packed(b"\n", suffix))
    assert read_examples(tmp_path, on_error=on_error) == EXPECTED
    assert [record.getMessage() for record in caplog.records] == [f"1 files without rows are passed over: {empty}."]


def test_only_empty_parts_are_refused(tmp_path, caplog):
    for stem in "ab":
        (tmp_path / f"{stem}.jsonl").write_bytes(b"")
    with pytest.raises(DataError, match="no rows"):
        read_examples([tmp_path / "a.jsonl", tmp_path / "b.jsonl"], on_error="skip")
    assert not caplog.records


NOT_NUMBERS = [b"NaN", b"Infinity", b"-Infinity", b'[1, {"x": NaN}]']


@pytest.mark.parametrize("value", NOT_NUMBERS, ids=lambda value: value.decode())
def test_values_that_json_has_not_matter_where_they_are_used_alone(tmp_path, value):
    path = write_bytes(tmp_path, b'{"text": "a", "score": %b}\n' % value)
    (example,) = read_examples(path)
    assert example.completion == "a"
    assert set(example.metadata) == {"score"}


def test_what_the_decoder_cannot_read_is_named_by_line_and_skipped(tmp_path):
    def prepare(example):
        if example.completion == "bad":
            raise RowError("no_good", "the decoder says no")
        return replace(example, prompt="prepared")

    path = write_bytes(tmp_path, GOOD + b'{"text": "bad"}\n')
    with pytest.raises(
        DataError, match=r"data\.jsonl:2: the decoder says no\. Correct the row, or give --on-error skip"
    ):
        read_examples(path, prepare=prepare)
    (example,) = read_examples(
        path, prepare=prepare, on_error="skip", max_reject_rate=0.5, rejects=tmp_path / "rejects"
    )
    assert (example.prompt, example.completion) == ("prepared", "good")
    assert json.loads((tmp_path / "rejects").read_bytes())["reason"] == "no_good"


def test_token_ids_are_refused_where_no_decoder_reads_them(tmp_path):
    path = write_bytes(tmp_path, b'{"input_ids": [1, 2]}\n')
    with pytest.raises(DataError, match=r"data\.jsonl:1: it holds token ids and no text; .*--decoder"):
        read_examples(path)
    read = read_examples(path, prepare=lambda example: replace(example, completion="text"))
    assert read[0].completion == "text"
