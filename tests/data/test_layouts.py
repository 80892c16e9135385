"""Layouts beyond prompt and completion: tools, parts, pairs, loss by turn, token ids, and prompts that stand twice."""

import json
import logging
import math
from collections import Counter

import datasets
import numpy as np
import pytest

from influcoder.data.examples import example_from_row, examples_from_row
from influcoder.data.messages import Chat, RowError
from influcoder.data.parts import Columns
from influcoder.data.reading import read_examples
from influcoder.data.token_ids import TokenIds

SYSTEM = {"role": "system", "content": "s"}
USER, ASSISTANT = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
AGAIN, AGAIN_SAID = {"role": "user", "content": "r"}, {"role": "assistant", "content": "b"}
CALL = {"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": {"x": 1}}}]}
RESULT = {"role": "tool", "content": "1"}
TOOLS = [{"type": "function", "function": {"name": "add"}}]


def read(row, **columns):
    (example,) = examples_from_row(row, Columns(**columns))
    return example


# What a chat template may read

PLAIN = {
    "keys without a value": {"messages": [USER | {"tool_calls": None, "name": None}, ASSISTANT]},
    "one text part": {"messages": [USER | {"content": [{"type": "text", "text": "q", "image": None}]}, ASSISTANT]},
    "a part without a type": {"messages": [USER | {"content": [{"text": "q"}]}, ASSISTANT]},
    "text among parts as it is": {"messages": [USER | {"content": ["q"]}, ASSISTANT]},
    "a part alone": {"messages": [USER | {"content": {"type": "text", "text": "q"}}, ASSISTANT]},
    "OpenAI's parts": {
        "messages": [
            USER | {"content": [{"type": "input_text", "text": "q"}]},
            ASSISTANT | {"content": [{"type": "output_text", "text": "a"}]},
        ]
    },
    "messages in JSON": {"messages": '[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]'},
    "from and value": {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
    "role and content under that name": {"conversations": [USER, ASSISTANT]},
    "one conversation": {"conversation": [USER, ASSISTANT]},
    "no tools": {"messages": [USER, ASSISTANT], "tools": []},
    "tools that are null": {"messages": [USER, ASSISTANT], "tools": None},
    "tools that pandas left out": {"messages": [USER, ASSISTANT], "tools": math.nan},
    "an input that pandas left out": {"instruction": "q", "input": math.nan, "output": "a"},
    "a response that pandas left out": {"instruction": "q", "completion": math.nan, "output": "a"},
    "no history": {"instruction": "q", "output": "a", "history": []},
    "an empty system": {"instruction": "q", "output": "a", "system": " "},
    "a completion that is one message": {"prompt": [USER], "completion": ASSISTANT},
}


@pytest.mark.parametrize("row", PLAIN.values(), ids=PLAIN)
def test_rows_that_say_a_plain_chat(row):
    example = read(row)
    assert (example.prompt, example.completion, example.turns) == ("q", "a", (("user", "q"),))
    assert example.given is None


def test_tools_and_calls_are_kept_as_they_are():
    example = read({"messages": [USER, CALL, RESULT, ASSISTANT], "tools": TOOLS, "documents": [{"title": "t"}]})
    assert example.given.messages == (USER, CALL, RESULT, ASSISTANT)
    assert example.given.variables == {"tools": TOOLS, "documents": [{"title": "t"}]}
    assert example.given.prompt == 3
    assert not example.metadata
    assert example.prompt == 'q\n\n{"name": "add", "arguments": {"x": 1}}\n\n1'


@pytest.mark.parametrize("content", [{}, {"content": None}, {"content": ""}], ids=str)
def test_a_call_is_a_completion_by_itself(content):
    example = read({"messages": [USER, CALL | content]})
    assert example.completion == '{"name": "add", "arguments": {"x": 1}}'


CALLS = {
    "arguments in JSON": [{"type": "function", "function": {"name": "add", "arguments": '{"x": 1}'}}],
    "without function around": [{"name": "add", "arguments": {"x": 1}}],
    "all in JSON": '[{"function": {"name": "add", "arguments": {"x": 1}}}]',
}


@pytest.mark.parametrize("calls", CALLS.values(), ids=CALLS)
def test_calls_read_the_same_in_plain_text(calls):
    example = read({"messages": [USER, {"role": "assistant", "tool_calls": calls}]})
    assert example.completion == '{"name": "add", "arguments": {"x": 1}}'


def test_tools_in_json_and_one_tool_alone():
    for tools in ('[{"name": "add"}]', '{"name": "add"}', {"name": "add"}, ['{"name": "add"}']):
        assert read({"messages": [USER, ASSISTANT], "tools": tools}).given.variables == {"tools": [{"name": "add"}]}


def test_variables_of_the_template():
    example = read({"messages": [USER, ASSISTANT], "chat_template_kwargs": '{"enable_thinking": false, "x": null}'})
    assert example.given.variables == {"enable_thinking": False}


def test_thoughts_and_other_fields_are_kept():
    answer = ASSISTANT | {"reasoning_content": "hm"}
    example = read({"messages": [USER | {"name": "Ada"}, answer]})
    assert example.given.messages == (USER | {"name": "Ada"}, answer)
    assert example.completion == "hm\na"


@pytest.mark.parametrize("content", [{"is": "Paris"}, [1, 2], 7, True, [{"is": 1}]], ids=str)
def test_what_a_tool_returns_may_be_any_value(content):
    example = read({"messages": [USER, CALL, RESULT | {"content": content}, ASSISTANT]})
    assert example.given.messages[2]["content"] == content


def test_several_parts_stay_parts():
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    example = read({"messages": [USER | {"content": parts}, ASSISTANT]})
    assert example.prompt == "one two"
    assert example.given.messages[0]["content"] == parts


def test_chats_from_arrow_have_nulls_in_the_place_of_missing_keys():
    rows = [{"messages": [USER, CALL, RESULT, ASSISTANT], "tools": TOOLS}, {"messages": [USER, ASSISTANT], "tools": []}]
    first, second = read_examples(datasets.Dataset.from_list(rows))
    assert first.given.messages[1]["tool_calls"] == CALL["tool_calls"]
    assert second.given is None


REFUSED = {
    "an image": (
        "content_not_text",
        {"messages": [USER | {"content": [{"type": "image_url", "image_url": "x"}]}, ASSISTANT]},
        "'image_url'",
    ),
    "a sound beside text": (
        "content_not_text",
        {"messages": [USER | {"content": [{"type": "text", "text": "q"}, {"type": "input_audio"}]}, ASSISTANT]},
        "'input_audio'",
    ),
    "no content": (
        "content_not_text",
        {"messages": [USER, {"role": "assistant", "reasoning_content": "hm"}]},
        "content",
    ),
    "no content of a tool": ("content_not_text", {"messages": [USER, {"role": "tool"}, ASSISTANT]}, "content"),
    "calls without a name": ("bad_tool_calls", {"messages": [USER, CALL | {"tool_calls": [{"x": 1}]}]}, "tool_calls"),
    "calls that are text": ("bad_tool_calls", {"messages": [USER, CALL | {"tool_calls": "add"}]}, "tool_calls"),
    "tools that are text": ("bad_tools", {"messages": [USER, ASSISTANT], "tools": "add"}, "tools"),
    "tools of text": ("bad_tools", {"messages": [USER, ASSISTANT], "tools": ["add"]}, "tools"),
    "unknown speaker": ("unknown_role", {"conversations": [{"from": "narrator", "value": "q"}]}, "'narrator'"),
    "surrogate in an argument": (
        "bad_unicode",
        {"messages": [USER, {"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"x": "\ud800"}}]}]},
        "surrogate",
    ),
    "a value that holds itself": ("bad_value", {"messages": [USER | {"x": (loop := [])}, ASSISTANT]}, "JSON"),
    "the same twice": ("bad_pair", {"chosen": "a b", "rejected": "a b"}, "begins with the other"),
    "text and messages": ("bad_pair", {"chosen": "a b", "rejected": [USER, ASSISTANT]}, "the same of both"),
    "a pair without an answer": ("no_assistant_turn", {"chosen": [USER], "rejected": [AGAIN]}, "user's"),
}
loop.append(loop)


@pytest.mark.parametrize(("code", "row", "told"), REFUSED.values(), ids=REFUSED)
def test_refused_by_name(code, row, told):
    with pytest.raises(RowError, match=told) as caught:
        examples_from_row(row, Columns(pairs="both"))
    assert caught.value.code == code


# Layouts of other tools


def test_sharegpt_with_tools():
    row = {
        "system": "s",
        "tools": '[{"name": "add"}]',
        "conversations": [
            {"from": "human", "value": "q"},
            {"from": "function_call", "value": '{"name": "add"}'},
            {"from": "observation", "value": "1"},
            {"from": "gpt", "value": "a"},
        ],
    }
    example = read(row)
    assert [one["role"] for one in example.given.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert example.completion == "a"
    assert not example.metadata


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "q", "output": "a", "system": "s"},
        {"question": "q", "response": "a", "system_prompt": "s"},
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "system": "s"},
        {"conversations": [SYSTEM, USER, ASSISTANT], "system": "another"},
    ],
    ids=str,
)
def test_system_columns(row):
    assert read(row).turns == (("system", "s"), ("user", "q"))


def test_system_column_beside_messages_is_metadata():
    example = read({"messages": [USER, ASSISTANT], "system": "s"})
    assert (example.turns, example.metadata) == ((("user", "q"),), {"system": "s"})


def test_alpaca_with_a_history():
    example = read({"instruction": "r", "output": "b", "history": [["q", "a"]]})
    assert example.turns == (("user", "q"), ("assistant", "a"), ("user", "r"))


# Prompts that would stand twice

ONCE = {
    "prompt in text": {"prompt": "q", "completion": [USER, ASSISTANT]},
    "with other spaces": {"prompt": " q\n", "completion": [USER, ASSISTANT]},
    "prompt in messages": {"prompt": [USER], "completion": [USER, ASSISTANT]},
    "rendered prompt": {"prompt": "<|user|>q<|assistant|>", "completion": [USER, ASSISTANT]},
    "empty prompt": {"prompt": "", "completion": [USER, ASSISTANT]},
}


@pytest.mark.parametrize("row", ONCE.values(), ids=ONCE)
def test_a_completion_that_begins_with_the_prompt_is_taken_without_it(row):
    assert (read(row).turns, read(row).completion) == ((("user", "q"),), "a")
    pair = {"prompt": row["prompt"], "chosen": row["completion"], "rejected": [USER, AGAIN_SAID]}
    assert read(pair, completion="chosen").turns == (("user", "q"),)
    sides = examples_from_row(pair, Columns(pairs="both"))
    assert [(one.turns, one.completion) for one in sides] == [((("user", "q"),), "a"), ((("user", "q"),), "b")]


LONGER = {
    "the end of the prompt": ([SYSTEM, USER], [USER, ASSISTANT], "s q"),
    "all of the prompt": ([SYSTEM, USER], [SYSTEM, USER, ASSISTANT], "s q"),
    "a system turn more": ([USER], [SYSTEM, USER, ASSISTANT], "s q"),
    "a long chat": ([USER, ASSISTANT, AGAIN], [USER, ASSISTANT, AGAIN, AGAIN_SAID], "q a r"),
    "its last question": ([USER, ASSISTANT, AGAIN], [AGAIN, AGAIN_SAID], "q a r"),
    "nothing": ([USER], [AGAIN, AGAIN_SAID], "q r"),
    "the answer alone": ([USER], [ASSISTANT], "q"),
    "an answer that was given before": ([USER, ASSISTANT, USER], [ASSISTANT], "q a q"),
}


@pytest.mark.parametrize(("prompt", "completion", "asked"), LONGER.values(), ids=LONGER)
def test_each_turn_is_taken_once(prompt, completion, asked):
    assert " ".join(content for _, content in read({"prompt": prompt, "completion": completion}).turns) == asked


def test_text_that_begins_with_its_prompt(caplog):
    row = {"prompt": "What is two and two? ", "completion": "What is two and two? Four."}
    notes = Counter()
    assert examples_from_row(row, notes=notes)[0].completion == "Four."
    assert notes.total() == 1
    with caplog.at_level(logging.WARNING, logger="influcoder"):
        assert read_examples([row, {"text": "x"}])[0].completion == "Four."
    assert "1 of 2 rows: a completion begins with its whole prompt" in caplog.text


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "The", "completion": "The cat"},
        {"prompt": "say this please", "completion": "say this please"},
        {"prompt": "What is two?", "completion": "What is too?"},
        {"question": "What is two and two?", "answer": "What is two and two? Four."},
    ],
    ids=str,
)
def test_text_that_repeats_its_prompt_on_purpose(row):
    assert read(row).completion == row.get("completion", row.get("answer"))


# Preference pairs


def test_a_pair_is_refused_until_it_is_said_which_side():
    with pytest.raises(RowError, match=r"--pairs chosen, --pairs rejected, or --pairs both"):
        example_from_row({"prompt": "q", "chosen": "a", "rejected": "b"})


def test_both_sides_are_two_rows_that_say_which_they_are():
    row = {"id": 7, "prompt": "q", "chosen": "a", "rejected": "b", "source": "web"}
    chosen, rejected = read_examples([row], columns=Columns(pairs="both"))
    assert (chosen.id, chosen.completion, rejected.id, rejected.completion) == ("7-chosen", "a", "7-rejected", "b")
    assert chosen.metadata == {"source": "web", "preference": "chosen"}
    assert rejected.metadata == {"source": "web", "preference": "rejected"}


def test_one_side_is_one_row():
    row = {"prompt": "q", "chosen": "a", "rejected": "b"}
    assert [read(row, pairs=side).completion for side in ("chosen", "rejected")] == ["a", "b"]
    assert read(row, pairs="chosen").metadata == {"preference": "chosen"}


PAIRS = {
    "messages before": {"messages": [USER], "chosen": [ASSISTANT], "rejected": [AGAIN_SAID]},
    "instruction": {"instruction": "q", "chosen": "a", "rejected": "b"},
    "question": {"question": "q", "chosen": "a", "rejected": "b"},
    "a message a side": {
        "conversations": [{"from": "human", "value": "q"}],
        "chosen": {"from": "gpt", "value": "a"},
        "rejected": {"from": "gpt", "value": "b"},
    },
    "prompt in messages, sides in text": {"prompt": [USER], "chosen": "a", "rejected": "b"},
    "no prompt": {"chosen": [USER, ASSISTANT], "rejected": [USER, AGAIN_SAID]},
    "a null prompt": {"prompt": None, "chosen": [USER, ASSISTANT], "rejected": [USER, AGAIN_SAID]},
}


@pytest.mark.parametrize("row", PAIRS.values(), ids=PAIRS)
def test_where_the_prompt_of_a_pair_is(row):
    sides = examples_from_row(row, Columns(pairs="both"))
    assert [(one.turns, one.completion) for one in sides] == [((("user", "q"),), "a"), ((("user", "q"),), "b")]


def test_a_pair_that_shares_a_text():
    row = {"chosen": "Human: two? Assistant: four.", "rejected": "Human: two? Assistant: five, no, four."}
    row |= {"rejected": "Human: two? Assistant: seven."}
    chosen, rejected = examples_from_row(row, Columns(pairs="both"))
    assert (chosen.prompt, chosen.completion) == ("Human: two? Assistant:", " four.")
    assert rejected.completion == " seven."


def test_both_sides_that_begin_with_a_short_prompt():
    row = {"prompt": "Two? ", "chosen": "Two? four", "rejected": "Two? seven"}
    assert [one.completion for one in examples_from_row(row, Columns(pairs="both"))] == ["four", "seven"]


# What carries loss

LONG = {"messages": [SYSTEM, USER, ASSISTANT, AGAIN, AGAIN_SAID]}
WEIGHED = {
    "weights in messages": {"messages": [USER, ASSISTANT | {"weight": 0}, AGAIN, AGAIN_SAID | {"weight": 1}]},
    "one weight says it": {"messages": [USER, ASSISTANT | {"weight": 0}, AGAIN, AGAIN_SAID]},
    "train": {"messages": [USER, ASSISTANT | {"train": False}, AGAIN, AGAIN_SAID]},
    "training": {"messages": [USER, ASSISTANT | {"training": False}, AGAIN, AGAIN_SAID | {"training": True}]},
    "loss": {"messages": [USER, ASSISTANT | {"loss": False}, AGAIN, AGAIN_SAID]},
    "a column of weights": {"messages": [USER, ASSISTANT, AGAIN, AGAIN_SAID], "weights": [0, 0, 0, 1]},
    "a column of one weight a turn": {"messages": [USER, ASSISTANT, AGAIN, AGAIN_SAID], "weight": [0.0, 0.0, 0.0, 1.0]},
    "a column of truth values": {"messages": [USER, ASSISTANT, AGAIN, AGAIN_SAID], "train_on": [False] * 3 + [True]},
    "nulls in a column": {"messages": [USER, ASSISTANT, AGAIN, AGAIN_SAID], "train_on": [None, False, None, None]},
    "in a prompt and a completion": {
        "prompt": [USER, ASSISTANT, AGAIN],
        "completion": [AGAIN_SAID],
        "train_on": [0, 0, 0, 1],
    },
    "ShareGPT": {
        "conversations": [
            {"from": "human", "value": "q"},
            {"from": "gpt", "value": "a", "weight": 0},
            {"from": "human", "value": "r"},
            {"from": "gpt", "value": "b", "weight": 1},
        ]
    },
}


@pytest.mark.parametrize("row", WEIGHED.values(), ids=WEIGHED)
def test_loss_by_turn(row):
    example = read(row)
    assert example.given.weights == (0, 0, 0, 1)
    assert (example.prompt, example.completion) == ("q\n\na\n\nr", "b")


def test_loss_by_role():
    for roles in ("assistant", ["assistant"]):
        assert read(LONG | {"train_on": roles}).given.weights == (0, 0, 1, 0, 1)
    assert read(LONG | {"train_on": ["user", "assistant"]}).given.weights == (0, 1, 1, 1, 1)


def test_what_a_row_says_comes_before_what_its_reader_says():
    row = {"messages": [USER, ASSISTANT, AGAIN, AGAIN_SAID | {"weight": 0}]}
    for loss in ("completion", "assistant", "all"):
        assert read(row, loss=loss).given.weights == (0, 1, 0, 0)


def test_a_last_turn_of_the_user_is_no_matter_where_others_count():
    example = read({"messages": [USER, ASSISTANT, AGAIN], "train_on": [0, 1, 0]})
    assert (example.prompt, example.completion) == ("q", "a")


def test_loss_on_every_answer():
    example = read(LONG, loss="assistant")
    assert example.given == Chat(tuple(LONG["messages"]), 0, (0, 0, 1, 0, 1))
    assert (example.prompt, example.completion) == ("s\n\nq\n\nr", "a\n\nb")
    example = read({"prompt": [USER, ASSISTANT, AGAIN], "completion": [AGAIN_SAID]}, loss="assistant")
    assert (example.given.prompt, example.given.weights) == (3, (0, 0, 0, 1))


def test_loss_on_everything():
    example = read(LONG, loss="all")
    assert example.given == Chat(tuple(LONG["messages"]), 0)
    assert (example.prompt, example.completion) == ("", "s\n\nq\n\na\n\nr\n\nb")
    example = read({"prompt": "q ", "completion": "a"}, loss="all")
    assert (example.prompt, example.completion) == ("", "q a")
    assert read({"messages": [USER, ASSISTANT, AGAIN]}, loss="all").completion == "q\n\na\n\nr"


@pytest.mark.parametrize(
    ("code", "row"),
    [
        ("bad_weight", {"messages": [USER, ASSISTANT | {"weight": -1}]}),
        ("bad_weight", {"messages": [USER, ASSISTANT | {"weight": "1"}]}),
        ("bad_weight", {"messages": [USER, ASSISTANT | {"weight": math.inf}]}),
        ("bad_weight", {"messages": [USER, ASSISTANT], "train_on": [1]}),
        ("bad_weight", {"messages": [USER, ASSISTANT], "weights": [0, "x"]}),
        ("no_loss", {"messages": [USER, ASSISTANT | {"weight": 0}]}),
        ("no_loss", {"messages": [USER, ASSISTANT], "train_on": "tool"}),
    ],
    ids=str,
)
def test_weights_that_cannot_be(code, row):
    with pytest.raises(RowError) as caught:
        read(row)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [USER, ASSISTANT | {"loss": 2.3}]},
        {"messages": [USER, ASSISTANT], "weight": 0.5},
        {"messages": [USER, ASSISTANT], "train_on": True},
    ],
    ids=str,
)
def test_other_values_of_these_names_say_nothing(row):
    example = read(row)
    assert (example.completion, example.given.weights if example.given else ()) == ("a", ())


# Rows that are tokenised already

TOKENS = {
    "ids alone": ({"input_ids": [5, 6, 7]}, (5, 6, 7), (1, 1, 1)),
    "labels": ({"input_ids": [5, 6, 7], "labels": [-100, 6, -100]}, (5, 6, 7), (0, 1, 0)),
    "a completion mask": ({"input_ids": [5, 6, 7], "completion_mask": [0, 0, 1]}, (5, 6, 7), (0, 0, 1)),
    "two masks": (
        {"input_ids": [5, 6, 7], "completion_mask": [0, 1, 1], "assistant_masks": [1, 1, 0]},
        (5, 6, 7),
        (0, 1, 0),
    ),
    "padding": ({"input_ids": [0, 5, 6, 7], "attention_mask": [0, 1, 1, 1]}, (5, 6, 7), (1, 1, 1)),
    "null labels": ({"input_ids": [5, 6], "labels": None}, (5, 6), (1, 1)),
}


@pytest.mark.parametrize(("row", "ids", "weights"), TOKENS.values(), ids=TOKENS)
def test_token_ids(row, ids, weights):
    example = example_from_row(row | {"source": "web"})
    assert example.given == TokenIds(ids, weights)
    assert example.metadata == {"source": "web"}


def test_text_is_read_before_token_ids():
    assert read({"text": "a", "input_ids": [5]}).given is None


@pytest.mark.parametrize(
    ("code", "row"),
    [
        ("bad_tokens", {"input_ids": []}),
        ("bad_tokens", {"input_ids": "x"}),
        ("bad_tokens", {"input_ids": [1.5]}),
        ("bad_tokens", {"input_ids": [True, False]}),
        ("bad_tokens", {"input_ids": [-5, 3]}),
        ("bad_tokens", {"input_ids": [5, 6], "labels": [5]}),
        ("bad_tokens", {"input_ids": [5, 2**40]}),
        ("bad_labels", {"input_ids": [5, 6], "labels": [5, 7]}),
        ("no_loss", {"input_ids": [5, 6], "labels": [-100, -100]}),
        ("no_loss", {"input_ids": [5, 6], "labels": [5, -100]}),
        ("no_loss", {"input_ids": [5]}),
    ],
    ids=str,
)
def test_token_ids_that_cannot_be_read(code, row):
    with pytest.raises(RowError) as caught:
        example_from_row(row)
    assert caught.value.code == code


# The same in other forms: as pandas, NumPy and older exports have them

CHAT = [USER, ASSISTANT, USER, ASSISTANT]
FORMS = {
    "array of messages": {"messages": np.array(CHAT, dtype=object)},
    "tuple": {"messages": tuple(CHAT)},
    "messages in JSON, each": {"messages": [json.dumps(one) for one in CHAT]},
    "columns": {"messages": {name: [one[name] for one in CHAT] for name in ("role", "content")}},
    "ShareGPT's roles": {
        "messages": [one | {"role": {"user": "human", "assistant": "gpt"}[one["role"]]} for one in CHAT]
    },
}


@pytest.mark.parametrize("row", FORMS.values(), ids=FORMS)
def test_messages_in_other_forms(row):
    assert read(row) == read({"messages": CHAT})


@pytest.mark.parametrize(
    "more",
    [
        {"train_on": np.array([0, 1, 0, 1])},
        {"train_on": (0, 1, 0, 1)},
        {"train_on": "[0, 1, 0, 1]"},
        {"train_on": "gpt"},
        {"train_on": ["gpt"]},
        {"weights": np.array([0, 1.0, 0, 1])},
        {"weight": [False, np.bool_(True), False, np.float32(1)]},
    ],
    ids=str,
)
def test_loss_by_turn_in_other_forms(more):
    assert read({"messages": CHAT} | more).given == read({"messages": CHAT, "train_on": "assistant"}).given


@pytest.mark.parametrize("value", ["all", "last", 0, False, {"assistant": 1}, ["1", "0", "1", "0"], [1e-300] * 4])
def test_loss_by_turn_that_is_not_understood_is_refused(value):
    with pytest.raises(RowError) as caught:
        read({"messages": CHAT, "train_on": value})
    assert caught.value.code == "bad_weight"


def test_contexts_are_part_of_the_question():
    assert read({"question": "q", "context": "c", "answer": "a"}).prompt == "q\n\nc"
    assert read({"instruction": "q", "context": "c", "input": "i", "output": "a"}).prompt == "q\n\nc\n\ni"


def test_tool_calls_in_other_forms():
    call = {"name": "add", "arguments": {"x": 1}}
    expected = read({"messages": [USER, {"role": "assistant", "tool_calls": [call]}]})
    for value in (call, json.dumps(call), json.dumps([call]), [json.dumps(call)]):
        assert read({"messages": [USER, {"role": "assistant", "tool_calls": value}]}) == expected
    assert read({"messages": [USER, ASSISTANT | {"tool_calls": ""}]}) == read({"messages": [USER, ASSISTANT]})
    with pytest.raises(RowError, match="tool_calls is 5"):
        read({"messages": [USER, {"role": "assistant", "tool_calls": 5}]})


def test_masks_of_truth_values_and_of_other_names():
    expected = read({"input_ids": [1, 2, 3], "completion_mask": [0, 0, 1]}).given
    for name in ("completion_mask", "loss_mask", "assistant_mask", "assistant_masks"):
        assert read({"input_ids": [1, 2, 3], name: [False, False, True]}).given == expected


def test_a_pair_whose_prompt_is_not_a_number():
    row = {"prompt": float("nan"), "chosen": CHAT[:2], "rejected": [USER, ASSISTANT | {"content": "b"}]}
    assert examples_from_row(row, Columns(pairs="chosen"))[0].turns
