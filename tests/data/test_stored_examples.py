"""Examples with more than turns survive their columns; what versions before wrote is read as it was."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from influcoder.data.columns import data_fingerprint, from_columns, to_columns
from influcoder.data.examples import Example
from influcoder.data.messages import Chat
from influcoder.data.token_ids import TokenIds

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": VALUES, "tool_calls": VALUES}),
    min_size=1,
    max_size=3,
)
CHATS = st.builds(
    Chat,
    MESSAGES.map(tuple),
    st.integers(0, 3),
    st.lists(st.floats(0, 2)).map(tuple),
    st.dictionaries(st.text(max_size=4), VALUES, max_size=2),
)
TOKENS = st.builds(TokenIds, st.lists(st.integers(0, 99)).map(tuple), st.lists(st.floats(0, 2)).map(tuple))


def stored(example):
    return from_columns({"id": example.id} | {name: values[0] for name, values in to_columns([example]).items()})


@given(CHATS | TOKENS)
def test_what_the_decoder_reads_survives_its_columns(given):
    turns = (("user", "q"),) if isinstance(given, Chat) else ()
    example = Example("a", "q", "b", turns, {"x": 1}, given)
    assert stored(example) == example
    assert stored(example).metadata == {"x": 1}


def test_whole_numbers_of_any_size_survive():
    chat = Chat(({"role": "user", "content": "q"}, {"role": "assistant", "tool_calls": [{"x": 2**70}]}), 1)
    assert stored(Example("a", "q", "b", given=chat)).given == chat


def test_plain_examples_are_stored_as_before():
    (turns,) = to_columns([Example("a", "q", "b", (("user", "q"),))])["turns"]
    assert turns == '[["user","q"]]'
    columns = {"id": "a", "prompt": "q", "completion": "b", "turns": '[["user","q"]]', "metadata": "{}"}
    assert from_columns(columns) == Example("a", "q", "b", (("user", "q"),))


def test_the_fingerprint_is_that_of_versions_before_and_tells_what_the_decoder_reads():
    plain = Example("a", "q", "b", (("user", "q"),), {"x": 1})
    written_by_0_1 = "a4424d40ee450fca4c1d3e122f1f90aed5be947c055e2a3db46172e96a20f03f"
    assert data_fingerprint([plain]) == written_by_0_1
    chats = [Chat(({"role": "assistant", "content": "b"},), 0, weights) for weights in ((), (1.0,))]
    found = {data_fingerprint([replace(plain, given=chat)]) for chat in chats}
    assert len(found | {written_by_0_1}) == 3
