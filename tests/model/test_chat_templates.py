"""What a decoder reads of chats: every field that its template reads, every word of the completion, or a refusal."""

import datetime
import json
import logging

import pytest

from helpers.chat_templates import GEMMA, KINDS, LLAMA, QWEN, chat_tokenizer_of, unmarked
from helpers.tiny import CHAT_TEMPLATE, tiny_decoder, tiny_model
from influcoder.data.examples import Example, examples_from_row
from influcoder.data.messages import RowError
from influcoder.data.parts import Columns
from influcoder.errors import DataError, ModelError
from influcoder.model import template as templates
from influcoder.model.decoder import Decoder
from influcoder.model.tokenise import Tokeniser

SYSTEM = {"role": "system", "content": "Be brief."}
USER, ASSISTANT = {"role": "user", "content": "Two plus two?"}, {"role": "assistant", "content": "Four it is."}
AGAIN, LAST = {"role": "user", "content": "And three?"}, {"role": "assistant", "content": "D"}
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
CALL = {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": {"x": "2"}}}]}
RESULT = {"role": "tool", "content": "4"}

PLAIN = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
PARTS = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% for part in m['content'] %}{% if part['type'] == 'text' %}"
    "{{ part['text'] }}{% endif %}{% endfor %}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def tokeniser(template, kind="qwen", **more):
    tokenizer = chat_tokenizer_of(kind)
    tokenizer.chat_template = template
    return Tokeniser(tokenizer, name="tiny", rows=400, max_length=more.pop("max_length", 4096))


def read(template, row, kind="qwen", **columns):
    """(what carries no loss, what does, what is left out) of a row's only example."""
    reader = tokeniser(template, kind)
    (example,) = examples_from_row(row, Columns(**columns))
    (tokens,) = reader.tokens([example])
    places = set(tokens.places.tolist())
    halves = [[int(one) for place, one in enumerate(tokens.ids) if (place in places) is has] for has in (False, True)]
    return *(reader.tokenizer.decode(half) for half in halves), tokens.lost


def chat(*messages, **more):
    return {"messages": list(messages)} | more


# A1: templates that read parts

OF_PARTS = {
    "parts": PARTS,
    "first part": PLAIN.replace("m.content", "m.content[0]['text']"),
    "first part by name": PLAIN.replace("m.content", "m['content'][0].text"),
    "filtered parts": PLAIN.replace(
        "m.content", "m.content | selectattr('type', 'equalto', 'text') | map(attribute='text') | join"
    ),
    "first text part": PLAIN.replace("m.content", "(m.content | selectattr('type', 'equalto', 'text') | first).text"),
    "parts of the user, text of the assistant": PLAIN.replace(
        "m.content",
        "m.content[0]['text'] if m.role == 'user' else m.content if m.content is string else m.content[0]['text']",
    ),
    "parts if they are none": PLAIN.replace("m.content", "m.content if m.content is string else m.content[0].text"),
}


@pytest.mark.parametrize("template", OF_PARTS.values(), ids=OF_PARTS)
@pytest.mark.parametrize("said", ["Four it is.", "D", "user", "im_end", "text", "<|im_end|>"])
def test_templates_that_read_parts_are_given_parts(template, said):
    asked, answered, lost = read(template, chat(SYSTEM, USER, {"role": "assistant", "content": said}))
    assert asked == "<|system|>Be brief.<|im_end|><|user|>Two plus two?<|im_end|><|assistant|>"
    assert answered == f"{said}<|im_end|>"
    assert not lost


def test_rows_of_parts_on_templates_of_text_and_of_parts():
    row = chat(USER | {"content": [{"type": "text", "text": "Two "}, {"type": "text", "text": "plus"}]}, ASSISTANT)
    for template in (
        PLAIN,
        PARTS,
        OF_PARTS["parts if they are none"].replace("[0].text", " | map(attribute='text') | join"),
    ):
        assert read(template, row)[0] == "<|user|>Two plus<|im_end|><|assistant|>"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "content",
    ["m.contents", "''", "'fixed'", "m.content | length", "m.content[:3]", "m.content | truncate(5, true, '', 0)"],
)
def test_a_completion_that_is_not_rendered_is_refused_with_both_texts(kind, content):
    template = PLAIN.replace("m.content", f"(m.content if m.role == 'user' else {content})")
    with pytest.raises(RowError, match=r"the completion 'Four it is\.' is not in what the chat template") as caught:
        read(template, chat(USER, ASSISTANT), kind)
    assert caught.value.code == "completion_not_rendered"
    assert repr(chat_tokenizer_of(kind).eos_token)[1:-1] in caught.value.detail


def test_an_answer_of_one_letter_is_not_found_in_an_end_token():
    template = PLAIN.replace("m.content", "(m.content if m.role == 'user' else '')")
    with pytest.raises(RowError, match="the completion 'D' is not in"):
        read(template, chat(USER, LAST))


def test_an_answer_is_not_found_in_its_prompt():
    template = PLAIN.replace("m.content", "(m.content if m.role == 'user' else '')")
    with pytest.raises(RowError, match="is not in"):
        read(template, chat(USER, ASSISTANT | {"content": "plus two"}))


def test_a_prompt_that_is_not_rendered_is_refused():
    with pytest.raises(RowError, match="renders nothing of the turns before the completion"):
        read(PLAIN.replace("m.content", "(m.content if m.role == 'assistant' else '')"), chat(SYSTEM, USER, ASSISTANT))


CHANGED = {
    "trim": "trim",
    "lower": "lower",
    "upper": "upper",
    "escaped": "e",
    "JSON": "tojson",
    "title": "title",
    "one line": "replace('\n', ' ')",
    "wrapped": "wordwrap(9)",
    "indented": "indent(4)",
    "without its first space": "replace(' ', '', 1)",
}


@pytest.mark.parametrize("change", CHANGED.values(), ids=CHANGED)
@pytest.mark.parametrize("said", ['Four\nit is & "so" <b>', "  D ", "?!", "日本 & co", "ß", "🙂"])
def test_templates_that_change_the_words_are_right(change, said):
    template = PLAIN.replace("m.content", f"(m.content if m.role == 'user' else m.content | {change})")
    _, answered, lost = read(template, chat(USER, {"role": "assistant", "content": said}))
    assert answered.endswith("<|im_end|>")
    assert not lost


# A2: tools, calls, thoughts


@pytest.mark.parametrize("kind", ["qwen", "llama"])
def test_all_that_a_template_reads_is_handed_to_it(kind):
    row = chat(SYSTEM, USER, CALL, RESULT, ASSISTANT, tools=TOOLS)
    asked, answered, lost = read(unmarked(KINDS[kind][0]), row, kind)
    assert '"name": "add"' in asked.split(SYSTEM["content"])[1 if kind == "qwen" else 0]
    assert '"x": "2"' in asked
    assert "4" in asked.split('"x": "2"')[1]
    assert answered.strip().startswith(("<think>", "Four"))
    assert not lost


@pytest.mark.parametrize("kind", ["qwen", "llama"])
def test_a_call_of_the_assistant_is_the_completion(kind):
    _, answered, _ = read(unmarked(KINDS[kind][0]), chat(USER, CALL, tools=TOOLS), kind)
    assert '{"name": "add", ' in answered
    assert '{"x": "2"}' in answered


@pytest.mark.parametrize("kind", ["qwen", "llama"])
@pytest.mark.parametrize("tool", [{"x": 1}, [1, "two"], 7, [{"type": "text", "text": "4"}]], ids=str)
def test_what_a_tool_returns(kind, tool):
    row = chat(USER, CALL, RESULT | {"content": tool}, ASSISTANT, tools=TOOLS)
    asked, _, lost = read(unmarked(KINDS[kind][0]), row, kind)
    assert not lost
    said = tool[0]["text"] if tool == [{"type": "text", "text": "4"}] else json.dumps(tool)
    assert said in asked


REPAIRED = {
    "content where there is none": (
        "{{ m.role + ':' + m.content }}{% for c in m.tool_calls or [] %}{{ c.function.name }}{% endfor %};",
        {"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": {}}}]},
        "assistant:add;",
    ),
    "arguments as an object": (
        "{% for c in m.tool_calls or [] %}{{ c.function.name }}{% for k, v in c.function.arguments | items %}"
        "|{{ k }}={{ v }}{% endfor %}{% endfor %}{{ m.content }};",
        {"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": '{"x": "2"}'}}]},
        "add|x=2;",
    ),
    "arguments as JSON": (
        "{% for c in m.tool_calls or [] %}{{ c.function.name + ' ' + c.function.arguments }}{% endfor %}"
        "{{ m.content }};",
        CALL,
        'add {"x": "2"};',
    ),
}


@pytest.mark.parametrize(("body", "answer", "expected"), REPAIRED.values(), ids=REPAIRED)
def test_templates_that_fail_on_the_row_as_it_is(body, answer, expected):
    template = "{% for m in messages %}" + body + "{% endfor %}"
    _, answered, _ = read(template, chat(USER, answer))
    assert answered == expected


LOST = {
    "tools": (chat(USER, ASSISTANT, tools=TOOLS), "tools"),
    "documents": (chat(USER, ASSISTANT, documents=[{"text": "x"}]), "documents"),
    "a name": (chat(USER | {"name": "Ada"}, ASSISTANT), "name of the user's turn"),
    "a call before the completion": (
        chat(USER, CALL | {"content": "calling"}, RESULT, ASSISTANT),
        "tool_calls of the assistant's turn",
    ),
    "thoughts": (chat(USER, ASSISTANT | {"reasoning_content": "hm"}), "reasoning of the assistant's turn"),
    "thoughts by another name": (chat(USER, ASSISTANT | {"thinking": "hm"}), "reasoning of the assistant's turn"),
    "a variable": (chat(USER, ASSISTANT, chat_template_kwargs={"enable_thinking": False}), "enable_thinking"),
}


@pytest.mark.parametrize(("row", "name"), LOST.values(), ids=LOST)
def test_a_field_that_is_lost_is_named_once_and_counted(row, name, caplog):
    reader = tokeniser(PLAIN)
    (example,) = examples_from_row(row | {"id": "the-row"})
    with caplog.at_level(logging.WARNING, logger="influcoder"):
        for _ in range(3):
            reader.prepared(example)
    assert [record.getMessage() for record in caplog.records] == [
        f"tiny: the chat template leaves out: {name} (the first such row: 'the-row')."
    ]
    assert reader.left_out == {name: 3}


@pytest.mark.parametrize("role", ["system", "tool"])
def test_a_turn_that_a_template_drops_is_named(role):
    template = PLAIN.replace("{% for m in messages %}", f"{{% for m in messages if m.role != '{role}' %}}")
    _, _, lost = read(template, chat({"role": role, "content": "Be brief."}, USER, ASSISTANT))
    assert lost == (f"content of the {role}'s turn",)


def test_a_call_that_a_template_drops_is_refused():
    with pytest.raises(RowError, match="the tool call 'add' is not in what the chat template renders for it"):
        read(PLAIN, chat(USER, CALL, tools=TOOLS))
    with pytest.raises(RowError, match="the tool call 'add' is not in"):
        read(PLAIN, chat(USER, CALL | {"content": "calling"}))


def test_arguments_of_a_call_that_a_template_drops_are_refused_and_named_in_the_prompt():
    template = PLAIN.replace("{{ m.content }}", "{{ m.content or m.tool_calls[0].function.name }}")
    with pytest.raises(RowError, match="the argument of a tool call '2' is not in what the chat template"):
        read(template, chat(USER, CALL | {"content": ""}))
    _, _, lost = read(template, chat(USER, CALL | {"content": ""}, RESULT, ASSISTANT))
    assert lost == ("arguments of a tool call of the assistant's turn",)


def test_older_names_of_tools_and_calls():
    call = {"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": '{"x": "2"}'}}
    row = {"messages": [USER, call]}
    expected = read(unmarked(QWEN), chat(USER, CALL, tools=TOOLS))
    assert read(unmarked(QWEN), row | {"functions": [TOOLS[0]["function"]]}) == expected
    own = "{% for m in messages %}{{ m.content or (m.function_call.name ~ m.function_call.arguments) }};{% endfor %}"
    assert read(own, row)[1] == 'add{"x": "2"};'


def test_thoughts_in_the_completion_that_a_template_takes_out():
    template = PLAIN.replace("m.content", "m.content.split('</think>')[-1]")
    _, answered, lost = read(template, chat(USER, ASSISTANT | {"content": "<think>so</think>Four"}))
    assert (answered, lost) == ("Four<|im_end|>", ("thoughts in the completion",))


def test_a_prompt_that_already_begins_to_think():
    template = PLAIN.replace("<|assistant|>{% endif %}", "<|assistant|><think>\n{% endif %}")
    asked, answered, _ = read(template, chat(USER, ASSISTANT | {"content": "<think>\nso</think>Four"}))
    assert asked.endswith("<|assistant|><think>\n")
    assert answered == "so</think>Four<|im_end|>"
    asked, answered, _ = read(template, chat(USER, ASSISTANT))
    assert answered == "Four it is.<|im_end|>"


def test_columns_of_the_names_that_a_template_reads():
    template = "{{ date_string }}{{ controls.style }}" + PLAIN
    asked, _, _ = read(template, chat(USER, ASSISTANT, date_string="1 May 2020", controls={"style": "-terse"}, other=1))
    assert asked.startswith("1 May 2020-terse<|user|>")
    asked, _, _ = read(LLAMA, chat(USER, ASSISTANT, date_string="1 May 2020"), "llama")
    assert "Today Date: 1 May 2020" in asked


@pytest.mark.parametrize("name", ["add_generation_prompt", "tokenize", "chat_template", "messages"])
def test_variables_that_are_not_the_rows(name):
    with pytest.raises(RowError, match=f"chat_template_kwargs sets '{name}'"):
        read(PLAIN, chat(USER, ASSISTANT, chat_template_kwargs={name: True}))


# A8: the clock


class Tomorrow(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2031, 1, 2, tzinfo=tz)


@pytest.mark.parametrize(
    "asks",
    [
        "strftime_now('%d %b %Y')",
        "strftime_now(format='%Y-%m-%d')",
        "strftime_now('%Y') ~ strftime_now('%H:%M')",
        "(strftime_now('%d') | int) + 1",
        "strftime_now('%d') if strftime_now is defined else 'never'",
    ],
)
def test_the_date_is_the_same_every_day(asks, monkeypatch):
    template = "{% set today = " + asks + " %}{{ today }}" + PLAIN
    before = read(template, chat(USER, ASSISTANT))
    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Tomorrow)
    assert read(template, chat(USER, ASSISTANT)) == before
    assert "2031" not in before[0]


def test_the_date_in_macros_loops_and_marked_turns(monkeypatch):
    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Tomorrow)
    template = (
        "\n  {% macro header() %}{{ strftime_now('%Y') }}{% endmacro %}\n{% for m in messages %}{{ header() }}"
        "{% if m.role == 'assistant' %}{% generation %}{{ m.content + strftime_now('%m') }}{% endgeneration %}"
        "{% else %}{{ m.content }}{% endif %}{% endfor %}"
    )
    asked, answered, _ = read(template, chat(USER, ASSISTANT), loss="assistant")
    assert (asked, answered) == ("\n2024Two plus two?2024", "Four it is.07")


def test_a_clock_changes_nothing_else_of_a_template():
    for template in (LLAMA, "\n" + PLAIN, "  {% if true %}x{% endif %}\n" + PLAIN):
        tokenizer = chat_tokenizer_of("llama")
        text = "{% set x = strftime_now('%Y') %}" + template
        expected = tokenizer.apply_chat_template(
            [USER], chat_template=text.replace("strftime_now('%Y')", "1"), tokenize=False
        )
        found = tokenizer.apply_chat_template([USER], chat_template=templates.Source.of(text).text, tokenize=False)
        assert found == expected.replace(datetime.datetime.now().strftime("%d %b %Y"), "26 Jul 2024")


def test_an_unknown_date_format_is_refused():
    with pytest.raises(RowError, match="strftime_now of an unknown format"):
        read("{{ strftime_now(messages[0].content) }}" + PLAIN, chat(USER, ASSISTANT))


@pytest.mark.parametrize("text", ["{{ ['a', 'b'] | random }}", "{{ lipsum() }}"])
def test_templates_that_draw_at_random_are_refused(text):
    with pytest.raises(ModelError, match="tiny: the chat template draws at random"):
        read(text + PLAIN, chat(USER, ASSISTANT))


def test_the_date_is_recorded_and_told(monkeypatch, caplog):
    def decoder(template):
        tokenizer = chat_tokenizer_of("llama")
        tokenizer.chat_template = template
        return Decoder(tiny_model("llama", vocabulary=400), tokenizer, name="tiny", max_length=64)

    with_clock, without = decoder(LLAMA), decoder(PLAIN)
    assert with_clock.fingerprint.template_date == "2024-07-26"
    assert without.fingerprint.template_date is None
    before = with_clock.fingerprint.tokenizer
    with_clock.tokenise([Example.question("Two?", "Four")])
    assert "the chat template asks for the date and always gets 2024-07-26" in caplog.text
    monkeypatch.setattr(templates, "CLOCK", datetime.datetime(2024, 7, 27))
    assert decoder(LLAMA).fingerprint.tokenizer != before
    assert decoder(PLAIN).fingerprint.tokenizer == without.fingerprint.tokenizer


# B1: templates that refuse


REFUSING = {
    "system turn": (GEMMA, chat(SYSTEM, USER, ASSISTANT), "System role not supported"),
    "two turns of a role": (GEMMA, chat(USER, AGAIN, ASSISTANT), "Conversation roles must alternate"),
    "two calls": (LLAMA, chat(USER, CALL | {"tool_calls": CALL["tool_calls"] * 2}, tools=TOOLS), "one tool at a time"),
    "an unknown filter argument": (PLAIN.replace("m.content", "m.content | round"), chat(USER, ASSISTANT), "TypeError"),
    "a division": ("{{ 1 // 0 }}" + PLAIN, chat(USER, ASSISTANT), "ZeroDivisionError"),
    "what is not there": ("{{ messages[9].content.x }}" + PLAIN, chat(USER, ASSISTANT), "has no element 9"),
    "what is not safe": ("{{ ''.__class__.__mro__ }}" + PLAIN, chat(USER, ASSISTANT), "unsafe"),
    "a deep call": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}" + PLAIN, chat(USER, ASSISTANT), "RecursionError"),
}


@pytest.mark.parametrize(("template", "row", "words"), REFUSING.values(), ids=REFUSING)
def test_a_template_that_fails_refuses_the_row_in_its_words(template, row, words):
    with pytest.raises(RowError, match="the chat template refuses it: ") as caught:
        read(template, row, "gemma")
    assert caught.value.code == "template_refused"
    assert words in caught.value.detail


@pytest.mark.parametrize("template", ["{% for m in messages %}", PLAIN.replace("m.content", "m.content | nothing")])
def test_a_template_that_is_no_template(template):
    with pytest.raises(ModelError, match="tiny: the chat template cannot be read"):
        read(template, chat(USER, ASSISTANT))


def test_an_example_that_cannot_be_read_is_named_by_its_id():
    decoder = tiny_decoder("llama", chat_tokenizer_of("gemma"))
    good, bad = Example.question("Two?", "Four", id="good"), Example("bad", "s", "a", (("system", "s"),))
    with pytest.raises(DataError, match="example 'bad': the chat template refuses it: System role not supported"):
        decoder.tokenise([good, bad])


NAMED = {"tool_use": "T" + PLAIN, "rag": "R" + PLAIN}


def test_named_templates():
    both = NAMED | {"default": "D" + PLAIN}
    assert read(both, chat(USER, ASSISTANT))[0].startswith("D<|user|>")
    assert read(both, chat(USER, ASSISTANT, tools=TOOLS))[0].startswith("T<|user|>")
    assert read(NAMED, chat(USER, ASSISTANT, tools=TOOLS))[0].startswith("T<|user|>")
    assert read({"rag": "R" + PLAIN}, chat(USER, ASSISTANT))[0].startswith("R<|user|>")
    with pytest.raises(RowError, match=r"the chat templates \['rag', 'tool_use'\] and none called default"):
        read(NAMED, chat(USER, ASSISTANT))
    assert read(NAMED, {"prompt": "Two\n", "completion": "four"})[1] == "four<|im_end|>"


# Prompts that are rendered already


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("qwen", "<|im_start|>user\nTwo?<|im_end|>\n<|im_start|>assistant\n"),
        ("llama", "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nTwo?<|eot_id|>"),
        ("gemma", " <bos><start_of_turn>user\nTwo?<end_of_turn>\n"),
        ("gemma", "<start_of_turn>user\nTwo?<end_of_turn>\n"),
    ],
)
def test_a_message_that_is_rendered_already_is_refused(kind, text):
    template = unmarked(KINDS[kind][0])
    for row in (
        {"prompt": text, "completion": [ASSISTANT]},
        {"question": text, "answer": "Four"},
        chat(USER | {"content": text}, ASSISTANT),
    ):
        with pytest.raises(RowError, match=r"message 0 holds '<.*already rendered"):
            read(template, row, kind)
    asked, answered, _ = read(template, {"prompt": text.strip(), "completion": "Four"}, kind)
    assert (asked.count("<bos>") + asked.count("<|begin_of_text|>"), asked.count("user")) == (kind != "qwen", 1)
    assert answered.startswith("Four")


OPENED_BY_WORDS = {
    "vicuna": "{% for m in messages %}{{ m.role | upper }}: {{ m.content }} {% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}",
    "alpaca": "{% for m in messages %}### {{ m.role }}:\n{{ m.content }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}### assistant:\n{% endif %}",
    "mistral": "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}",
}


@pytest.mark.parametrize("template", OPENED_BY_WORDS.values(), ids=OPENED_BY_WORDS)
def test_prompts_rendered_by_templates_without_special_tokens_are_refused(template):
    reader = tokeniser(template, "gemma")
    rendered = reader.text(Example.question("Two?", "Four")).prompt.removeprefix("<bos>")
    for row in ({"question": rendered, "answer": "Four"}, {"prompt": rendered, "completion": [ASSISTANT]}):
        with pytest.raises(RowError, match=r"message 0 holds .*already rendered"):
            read(template, row, "gemma")
    for question in ("USER: is it? ASSISTANT: is it so", "What does [INST] mean?", "### user: I", "the user:"):
        assert read(template, {"question": question, "answer": "Four"}, "gemma")[1].strip().startswith("Four")


@pytest.mark.parametrize("kind", ["qwen", "llama", "gemma"])
def test_an_end_token_that_an_answer_has_is_not_written_twice(kind):
    end = KINDS[kind][1][-1]
    plain, ended = (chat(USER, ASSISTANT | {"content": f"Four.{more}"}) for more in ("", end + "\n"))
    template = unmarked(KINDS[kind][0])
    assert read(template, ended, kind) == read(template, plain, kind)


def test_a_template_that_does_not_say_where_an_answer_begins_is_told_of_once(caplog):
    silent = PLAIN.partition("{% if add")[0]
    reader = tokeniser(silent)
    with caplog.at_level(logging.WARNING, logger="influcoder"):
        for _ in range(2):
            reader.tokens([Example.question("Two?", "Four")])
    assert [record.getMessage() for record in caplog.records] == [
        "tiny: the chat template writes '<|assistant|>' before an answer, and not where one is asked for "
        "(add_generation_prompt), so it carries loss."
    ]
    caplog.clear()
    for template in (PLAIN, PARTS, QWEN, unmarked(QWEN), PLAIN.replace("m.content", "m.content | upper")):
        tokeniser(template).tokens([Example.question("Two?", "Four")])
    assert "before an answer" not in caplog.text


@pytest.mark.parametrize("printed", ["m.items", "m['role'].upper", "range", "messages[0].get"])
def test_a_template_that_prints_a_place_in_memory_is_refused(printed):
    with pytest.raises(RowError, match=r"writes '<.* at 0x[0-9a-f]+>', which is another text every time"):
        read(PLAIN.replace("m.content", f"m.content ~ {printed}"), chat(USER, ASSISTANT))
    said = "It shows <function f at 0x7f00>."
    assert said in read(PLAIN, chat(USER, ASSISTANT | {"content": said}))[1]


def test_a_message_may_speak_of_special_tokens_and_begin_with_others():
    for said in ("The token <|im_start|> begins a turn.", "<think>so</think>Four", "<|im_end|>"):
        assert read(QWEN, chat(USER, ASSISTANT | {"content": said}))[1]


# Loss by turn


def test_loss_of_every_answer_with_marks_and_without():
    row = chat(USER, ASSISTANT, AGAIN, LAST)
    marked, plain = (read(one, row, "llama", loss="assistant")[1] for one in (LLAMA, unmarked(LLAMA)))
    assert marked == plain == "Four it is.<|eot_id|>D<|eot_id|>"
    assert read(unmarked(GEMMA), row, "gemma", loss="assistant")[1] == "Four it is.<end_of_turn>\nD<end_of_turn>\n"
    assert read(GEMMA, row, "gemma", loss="assistant")[1] == "Four it is.<end_of_turn>D<end_of_turn>"


def test_loss_of_turns_that_are_written_differently_when_more_follow():
    row = chat(USER, ASSISTANT, AGAIN, LAST)
    assert read(unmarked(QWEN), row, loss="assistant")[1] == (
        "Four it is.<|im_end|><think>\n\n</think>\n\nD<|im_end|>\n"
    )
    thought = ASSISTANT | {"content": "<think>so</think>\n\nFour."}
    assert read(unmarked(QWEN), chat(USER, thought, AGAIN, LAST), loss="assistant")[1].startswith(
        "Four.<|im_end|><think>"
    )


@pytest.mark.parametrize("kind", ["qwen", "llama"])
def test_loss_of_every_answer_with_tool_calls_with_marks_and_without(kind):
    template = KINDS[kind][0]
    row = chat(USER, CALL, RESULT, ASSISTANT, tools=TOOLS)
    marked, plain = (read(one, row, kind, loss="assistant")[1] for one in (template, unmarked(template)))
    assert plain.rstrip() == marked
    assert '"x": "2"' in marked
    assert "4" not in marked.replace("Four", "")
    assert marked.count(KINDS[kind][1][-1]) == 2


def test_loss_of_a_call_that_is_escaped_cannot_be_told():
    call = CALL | {"tool_calls": [{"function": {"name": "add", "arguments": {"x": 'a "b"'}}}]}
    with pytest.raises(RowError, match=r"turn 1 differently .*mark the assistant's words"):
        read(unmarked(QWEN), chat(USER, call, RESULT, ASSISTANT, tools=TOOLS), loss="assistant")


def test_an_answer_alone_is_a_chat():
    asked, answered, _ = read(PLAIN, chat(ASSISTANT))
    assert asked + answered == "<|assistant|>Four it is.<|im_end|>"


def test_weights_of_turns_are_kept():
    row = chat(USER, ASSISTANT | {"weight": 0.25}, AGAIN | {"weight": 2}, LAST)
    for template in (LLAMA, unmarked(LLAMA)):
        reader = tokeniser(template, "llama")
        (tokens,) = reader.tokens(examples_from_row(row))
        said = {
            weight: reader.tokenizer.decode(
                [int(one) for one, has in zip(tokens.ids, tokens.weights, strict=True) if has == weight]
            )
            for weight in (0.25, 2, 1)
        }
        assert said[0.25] == "Four it is.<|eot_id|>"
        assert "And three?<|eot_id|>" in said[2]
        assert said[1] == "D<|eot_id|>"
        assert tokens.shares.sum() == pytest.approx(1)


def test_marked_turns_of_which_some_count():
    row = chat(USER, ASSISTANT | {"weight": 0}, AGAIN, LAST)
    assert read(LLAMA, row, "llama")[1] == "D<|eot_id|>"
    row = chat(USER, ASSISTANT, AGAIN, LAST | {"weight": 0})
    assert read(LLAMA, row, "llama")[1] == "Four it is.<|eot_id|>"


def test_a_turn_that_cannot_be_told_is_refused():
    template = "{% for m in messages %}{{ m.content | upper if loop.last else m.content | lower }};{% endfor %}"
    row = chat(USER, ASSISTANT, AGAIN, LAST)
    assert read(template, row, loss="assistant")[1] == "four it is.D"
    template = "{% for m in messages[-2:] %}{{ m.content }};{% endfor %}"
    with pytest.raises(RowError, match=r"turn 1 differently .*mark the assistant's words by {% generation %}"):
        read(template, row, loss="assistant")


SYSTEM_LAST = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {% if loop.last %}{{ messages[0].content }} {% endif %}"
    "{{ m.content }}[/INST]{% elif m.role == 'assistant' %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)


def test_a_question_that_is_written_differently_once_it_is_answered_carries_no_loss():
    asked, answered, lost = read(SYSTEM_LAST, chat(SYSTEM, USER, ASSISTANT))
    assert asked == "[INST] Two plus two?[/INST] "
    assert answered == "Four it is.<|im_end|>"
    assert lost == ("content of the system's turn",)
    template = SYSTEM_LAST.replace("{{ m.content }}{{ eos", "{{ m.content }}{{ (m.tool_calls or '') | tojson }}{{ eos")
    asked, answered, _ = read(template, chat(SYSTEM, USER, CALL))
    assert (asked[-14:], answered[:9]) == (" Two plus two?", "[/INST] [")


def test_templates_of_other_tests_still_read_as_they_did():
    assert read(CHAT_TEMPLATE, chat(USER, ASSISTANT)) == (
        "<user>Two plus two?<eos>\n<assistant>",
        "Four it is.<eos>\n",
        (),
    )
