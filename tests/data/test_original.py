"""The row that an example was read from, made again from what a store keeps."""

import datetime

import pytest

from influcoder.data.columns import from_columns, to_columns
from influcoder.data.examples import Columns, Example, example_from_row
from influcoder.data.original import origin_of, restored_row, row_of
from influcoder.data.reading import read_examples

USER = {"role": "user", "content": "Where?"}
ANSWER = {"role": "assistant", "content": "Here."}
ROWS = [
    {"text": "only a text", "source": "web", "score": 0.5},
    {"id": "a", "prompt": "p", "completion": "c"},
    {"completion": "c", "id": 7, "genre": {"of": ["x", None]}, "prompt": "p"},
    {"id": "same", "prompt": "same", "completion": "same", "copy": "same"},
    {"prompt": "", "response": "c", "flag": True},
    {"question": "2 + 2?", "answer": "4", "answers": ["4", "four"]},
    {"instruction": "Do it.", "context": "This.", "response": "Done.", "category": "closed_qa"},
    {"instruction": "Do it.", "context": "", "response": "Done.", "category": "closed_qa"},
    {"instruction": "Do it.", "input": None, "output": "Done."},
    {"instruction": "again", "input": "again", "output": "again"},
    {"messages": [{"role": "system", "content": "s"}, USER, ANSWER], "n": 1},
    {"prompt": [USER], "completion": [ANSWER]},
    {"prompt": [USER, ANSWER, USER], "completion": "Here."},
]
RARE = [{"messages": [{**USER, "name": "Ada"}, ANSWER]}, {"prompt": "Where?", "completion": [USER, ANSWER]}]


def stored(example):
    """An example as an index keeps it: without its row."""
    columns = to_columns([example])
    return from_columns({"id": example.id} | {name: values[0] for name, values in columns.items()})


def again(example):
    found = stored(example)
    assert found.row is None
    return restored_row(found, origin_of(example))


@pytest.mark.parametrize("row", [*ROWS, *RARE], ids=lambda row: " ".join(row))
def test_rows_are_made_again(row):
    found = again(read_examples([row])[0])
    assert found == row
    assert list(found) == list(row)  # columns in their order
    assert [type(value) for value in found.values()] == [type(value) for value in row.values()]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: " ".join(row))
def test_texts_are_not_stored_twice(row):
    origin = origin_of(read_examples([row])[0])
    assert not any(text in origin for text in ("only a text", "2 + 2?", "Do it.", "This.", "Where?", "Here."))


def test_columns_that_were_named():
    row = {"q": "Where?", "a": "Here.", "key": 3, "text": "more"}
    assert again(example_from_row(row, Columns(prompt="q", completion="a", id="key"))) == row


def test_what_json_cannot_hold_comes_back_as_text():
    row = {"text": "x", "day": datetime.date(2026, 1, 2)}
    assert again(read_examples([row])[0]) == {"text": "x", "day": "2026-01-02"}


@pytest.mark.parametrize(
    "example",
    [
        Example("a", "p", "c", (), {"genre": "code"}),
        Example("a", "s\n\nq", "c", (("system", "s"), ("user", "q")), {"n": 1}),
        Example.question("Where?", "Here."),
    ],
)
def test_examples_made_by_hand_have_a_row_that_reads_as_they_do(example):
    read = read_examples([again(example)])[0]
    assert read == example
    assert read.metadata == example.metadata


CALL = {"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": {"x": 1}}}]}


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [USER, CALL], "tools": [{"name": "add"}], "chat_template_kwargs": {"thinking": False}},
        {"messages": [USER, ANSWER, USER, {**ANSWER, "weight": 0.5}]},
        {"prompt": [USER], "completion": [CALL, {"role": "tool", "content": "1"}, ANSWER]},
        {"prompt": [USER], "chosen": [ANSWER], "rejected": [CALL]},
        {"messages": [ANSWER]},
        {"input_ids": [1, 2, 3], "labels": [-100, -100, 3]},
    ],
    ids=str,
)
def test_what_the_decoder_reads_is_in_the_usual_columns(row):
    columns = Columns(pairs="rejected" if "rejected" in row else None)
    example = example_from_row({"id": "x"} | row, columns)
    assert example.given is not None
    assert example_from_row(row_of(example)).given == example.given


def test_rows_of_one_layout_share_their_origin():
    rows = [{"id": f"r{n}", "question": f"q{n}", "answer": f"a{n}", "level": n} for n in range(5)]
    assert len({origin_of(one) for one in read_examples(rows)}) == 1
