import datetime
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from influcoder.data.columns import from_columns, to_columns
from influcoder.data.examples import Columns, Example, RowError, checked, content_id, example_from_row

USER, ASSISTANT = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
CHAT = (("user", "q"),)

LAYOUTS = {
    "messages": ({"messages": [USER, ASSISTANT]}, "q", "a", CHAT),
    "long chat": (
        {"messages": [{"role": "system", "content": "s"}, USER, ASSISTANT, USER, ASSISTANT]},
        "s\n\nq\n\na\n\nq",
        "a",
        (("system", "s"), ("user", "q"), ("assistant", "a"), ("user", "q")),
    ),
    "prompt, completion": ({"prompt": "q", "completion": "a"}, "q", "a", ()),
    "prompt, response": ({"prompt": "q", "response": "a"}, "q", "a", ()),
    "empty prompt": ({"prompt": "", "completion": "a"}, "", "a", ()),
    "prompt and completion chats": ({"prompt": [USER], "completion": [ASSISTANT]}, "q", "a", CHAT),
    "prompt chat, completion text": ({"prompt": [USER], "completion": "a"}, "q", "a", CHAT),
    "prompt text, completion chat": ({"prompt": "q", "completion": [ASSISTANT]}, "q", "a", CHAT),
    "instruction, output": ({"instruction": "q", "output": "a"}, "q", "a", CHAT),
    "instruction, response": ({"instruction": "q", "response": "a"}, "q", "a", CHAT),
    "instruction, input": ({"instruction": "q", "input": "i", "output": "a"}, "q\n\ni", "a", (("user", "q\n\ni"),)),
    "instruction, context": (
        {"instruction": "q", "context": "c", "response": "a"},
        "q\n\nc",
        "a",
        (("user", "q\n\nc"),),
    ),
    "instruction, empty input": ({"instruction": "q", "input": "", "output": "a"}, "q", "a", CHAT),
    "instruction, null input": ({"instruction": "q", "input": None, "output": "a"}, "q", "a", CHAT),
    "question, answer": ({"question": "q", "answer": "a"}, "q", "a", CHAT),
    "text": ({"text": "a"}, "", "a", ()),
    "messages before prompt": ({"messages": [USER, ASSISTANT], "prompt": "x", "text": "y"}, "q", "a", CHAT),
    "null response passed over": ({"prompt": "q", "completion": None, "response": "a"}, "q", "a", ()),
}


@pytest.mark.parametrize(("row", "prompt", "completion", "turns"), LAYOUTS.values(), ids=LAYOUTS)
def test_layouts(row, prompt, completion, turns):
    assert example_from_row(row) == Example("", prompt, completion, turns)


@pytest.mark.parametrize("row", [row for row, *_ in LAYOUTS.values()], ids=LAYOUTS)
def test_other_columns_are_metadata(row):
    example = example_from_row(row | {"id": "x", "source": "web", "score": 1.5})
    assert example.id == "x"
    assert {"source": "web", "score": 1.5}.items() <= example.metadata.items()
    assert "id" not in example.metadata


NAMED = [
    (Columns(text="body"), {"body": "a", "text": "no"}, ("", "a")),
    (Columns(prompt="ask", completion="say"), {"ask": "q", "say": "a", "text": "no"}, ("q", "a")),
    (Columns(prompt="ask"), {"ask": "q", "completion": "a"}, ("q", "a")),
    (Columns(completion="chosen"), {"prompt": "q", "chosen": "a", "rejected": "b"}, ("q", "a")),
    (Columns(completion="chosen"), {"prompt": "q", "chosen": [USER, ASSISTANT], "rejected": []}, ("q", "a")),
]


@pytest.mark.parametrize(("columns", "row", "expected"), NAMED)
def test_named_columns(columns, row, expected):
    example = example_from_row(row, columns)
    assert (example.prompt, example.completion) == expected


def test_named_id_column():
    example = example_from_row({"text": "a", "key": 5, "id": "other"}, Columns(id="key"))
    assert example.id == "5"
    assert example.metadata == {"id": "other"}


@pytest.mark.parametrize(("value", "expected"), [("x", "x"), (7, "7"), (0, "0"), (-3, "-3"), (None, ""), ("é", "é")])
def test_ids(value, expected):
    assert example_from_row({"text": "a", "id": value}).id == expected


BAD = [
    ("not_an_object", 5),
    ("not_an_object", [1]),
    ("not_an_object", None),
    ("unknown_layout", {}),
    ("unknown_layout", {"content": "a"}),
    ("unknown_layout", {3: "a", "b": 1}),
    ("empty_completion", {"text": ""}),
    ("empty_completion", {"text": " \n\t"}),
    ("empty_completion", {"prompt": "q", "completion": " "}),
    ("not_text", {"text": 5}),
    ("not_text", {"text": None}),
    ("not_text", {"text": math.nan}),
    ("not_text", {"text": ["a"]}),
    ("not_text", {"text": b"a"}),
    ("not_text", {"prompt": None, "completion": "a"}),
    ("not_text", {"prompt": 1, "completion": "a"}),
    ("not_text", {"question": "q", "answer": 4}),
    ("not_text", {"instruction": "q", "input": {"a": 1}, "output": "a"}),
    ("missing_column", {"prompt": "q"}),
    ("missing_column", {"prompt": "q", "completion": None}),
    ("missing_column", {"instruction": "q"}),
    ("missing_column", {"question": "q"}),
    ("preference_data", {"prompt": "q", "chosen": "a", "rejected": "b"}),
    ("preference_data", {"chosen": [USER, ASSISTANT], "rejected": [USER, ASSISTANT]}),
    ("no_messages", {"messages": []}),
    ("no_messages", {"messages": None}),
    ("no_messages", {"messages": "q"}),
    ("no_messages", {"prompt": [], "completion": "a"}),
    ("bad_message", {"messages": ["q"]}),
    ("bad_message", {"messages": [{"content": "q"}, ASSISTANT]}),
    ("unknown_role", {"messages": [{"role": "wizard", "content": "q"}, ASSISTANT]}),
    ("unknown_role", {"messages": [{"role": None, "content": "q"}, ASSISTANT]}),
    ("content_not_text", {"messages": [{"role": "user", "content": [{"type": "image", "url": "q"}]}, ASSISTANT]}),
    ("content_not_text", {"messages": [{"role": "user", "content": None}, ASSISTANT]}),
    ("content_not_text", {"messages": [{"role": "user"}, ASSISTANT]}),
    ("no_assistant_turn", {"messages": [USER]}),
    ("no_assistant_turn", {"messages": [USER, ASSISTANT, USER]}),
    ("bad_id", {"text": "a", "id": True}),
    ("bad_id", {"text": "a", "id": False}),
    ("bad_id", {"text": "a", "id": 1.5}),
    ("bad_id", {"text": "a", "id": math.nan}),
    ("bad_id", {"text": "a", "id": ""}),
    ("bad_id", {"text": "a", "id": ["x"]}),
    ("bad_id", {"text": "a", "id": "x\ny"}),
    ("bad_id", {"text": "a", "id": "x" * 513}),
    ("bad_unicode", {"text": "a\ud800"}),
    ("bad_unicode", {"prompt": "\udfff", "completion": "a"}),
    ("bad_unicode", {"text": "a", "id": "\ud800"}),
    ("bad_unicode", {"messages": [{"role": "user", "content": "\ud800"}, ASSISTANT]}),
    ("unknown_role", {"messages": [{"role": ["user"], "content": "q"}, ASSISTANT]}),
]


@pytest.mark.parametrize(("code", "row"), BAD, ids=[f"{number}-{code}" for number, (code, _) in enumerate(BAD)])
def test_unusable_rows(code, row):
    with pytest.raises(RowError) as caught:
        example_from_row(row)
    assert caught.value.code == code
    assert caught.value.detail


@pytest.mark.parametrize(
    ("code", "columns", "row"),
    [
        ("missing_id", Columns(id="key"), {"text": "a"}),
        ("missing_column", Columns(text="body"), {"text": "a"}),
        ("missing_column", Columns(completion="say"), {"prompt": "q"}),
        ("missing_column", Columns(prompt="ask"), {"completion": "a"}),
        ("not_text", Columns(text="body"), {"body": 1}),
    ],
)
def test_named_columns_that_do_not_fit(code, columns, row):
    with pytest.raises(RowError) as caught:
        example_from_row(row, columns)
    assert caught.value.code == code


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "x"]), inner),
    max_leaves=6,
)
NAMES = "messages prompt completion response instruction context input output question answer text chosen rejected id"


@given(st.dictionaries(st.sampled_from(NAMES.split()), ANYTHING, max_size=4) | ANYTHING)
def test_any_row_is_an_example_or_a_row_error(row):
    try:
        example = example_from_row(row)
    except RowError:
        return
    assert example.completion.strip()


@given(st.text(), st.text())
def test_content_id_depends_on_the_words_alone(prompt, completion):
    name = content_id(Example("x", prompt, completion))
    assert len(name) == 16
    assert name == content_id(Example("y", prompt, completion, (("user", prompt),), {"a": 1}))
    assert name != content_id(Example("x", prompt, completion + "."))


@given(st.lists(st.tuples(st.text(), st.text(), st.dictionaries(st.text(), st.text() | st.booleans() | st.none()))))
def test_examples_survive_their_columns(parts):
    examples = [Example(f"e{n}", p, c, (("user", p),) if n % 2 else (), m) for n, (p, c, m) in enumerate(parts)]
    columns = to_columns(examples)
    records = [{"id": one.id} | {name: columns[name][n] for name in columns} for n, one in enumerate(examples)]
    found = [from_columns(record) for record in records]
    assert found == examples
    assert [one.metadata for one in found] == [one.metadata for one in examples]


@given(
    ANYTHING.map(lambda value: {"x": value})
    | st.dictionaries(st.integers() | st.none() | st.tuples(st.text()), ANYTHING)
)
def test_any_metadata_can_be_stored(metadata):
    (text,) = to_columns([Example("a", "q", "a", metadata=metadata)])["metadata"]
    record = {"id": "a", "prompt": "q", "completion": "a", "turns": "[]", "metadata": text}
    assert len(from_columns(record).metadata) == len(metadata)


ODD = [
    ("a\ud800b", "a\\ud800b"),
    ({"\ud800": 1}, {"\\ud800": 1}),
    (2**70, str(2**70)),
    (-(2**63) - 1, str(-(2**63) - 1)),
    (2**64 - 1, 2**64 - 1),
    ({1: {None: 2}}, {"1": {"None": 2}}),
    (math.nan, "nan"),
    ([True, None, 1.5, ("x",)], [True, None, 1.5, ["x"]]),
    (np.arange(3), [0, 1, 2]),
    (np.float32(0.5), 0.5),
    (datetime.date(2020, 1, 2), "2020-01-02"),
]


@pytest.mark.parametrize(("value", "expected"), ODD, ids=range(len(ODD)))
def test_metadata_that_json_cannot_hold_is_kept_as_text(value, expected):
    (text,) = to_columns([Example("a", "q", "a", metadata={"x": value})])["metadata"]
    record = {"id": "a", "prompt": "q", "completion": "a", "turns": "[]", "metadata": text}
    assert from_columns(record).metadata == {"x": expected}


def test_metadata_as_deep_as_a_file_may_hold_is_stored():
    deep = []
    for _ in range(500):
        deep = [deep]
    (text,) = to_columns([Example("a", "q", "a", metadata={"x": deep})])["metadata"]
    assert text.startswith('{"x":[[[')


@pytest.mark.parametrize(
    ("code", "example"),
    [
        ("empty_completion", Example("a", "q", " ")),
        ("bad_id", Example("a\n", "q", "a")),
        ("bad_unicode", Example("\ud800", "q", "a")),
        ("bad_unicode", Example("a", "\ud800", "a")),
        ("bad_unicode", Example("a", "q", "a", (("user", "\ud800"),))),
    ],
)
def test_example_that_cannot_be_used(code, example):
    with pytest.raises(RowError) as caught:
        checked(example)
    assert caught.value.code == code
