"""Random rows and chat templates: right ones, whose text is known, and any."""

import json
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

LOSSES = st.sampled_from(["completion", "assistant", "all"])
ROLES = ("system", "user", "assistant", "tool")
Message = dict[str, Any]
TRICKY = [
    *(
        "D",
        "?!",
        "Four.\n\nIt is.",
        "  four  ",
        "日本 & co",
        "ß",
        "ﬁ",
        "🙂",
        "e\u0301",
        "<b>&amp;</b>",
        'so "it" is',
        "a\\b",
    ),
    *(
        "a <eos> b",
        "the <turn> token",
        "{{ x }}",
        "{% raw %}",
        "<think>so</think>Four",
        "\u200b.",
        "\ufffd",
        "1e5",
        "None",
    ),
    *("user", "USER: ", "### assistant:", "two plus two " * 30, "\r\n", "\t|", "text", "'", "\x00\x07", "\ue000"),
]
texts = st.sampled_from(TRICKY) | st.text(st.characters(exclude_categories=["Cs"]), max_size=24)


@dataclass(frozen=True)
class Style:
    """A right template: what it writes around a message's words, and what it does with these.

    Attributes:
        before, after: what stands around a turn, with {role} or {ROLE} in it.
        words: what is done with contents: "as they are", "trimmed", "parts", "joined parts".
        system: "own" turn, "merged" into the first question, or "always" there.
    """

    before: str
    after: str
    start: str
    words: str
    system: str
    marked: bool

    @property
    def delimited(self) -> bool:
        """Whether special tokens stand around each turn, so that no token belongs to two of them."""
        return self.before.endswith(">") and self.after.startswith("<")

    def text(self, messages: list[Message]) -> str:
        """What it must write."""
        system = [one for one in messages if one["role"] == "system"]
        rest = [one for one in messages if one["role"] != "system"]
        found = self.start
        if self.system == "always" and not system:
            found += self._head("system") + "You help." + self.after
        if self.system == "merged" and system:
            first, *others = rest
            return found + self._turn(first, self._words(system[0]) + "\n\n") + "".join(map(self._turn, others))
        return found + "".join(map(self._turn, messages))

    def answers(self, messages: list[Message]) -> list[str]:
        """What of it each turn of the assistant says, its end included."""
        return [self._said(one) + self.after for one in messages if one["role"] == "assistant"]

    def jinja(self) -> str:
        """It, as a chat template."""
        content = {
            "as they are": "m.content or ''",
            "trimmed": "(m.content or '') | trim",
            "parts": "",
            "joined parts": "(m.content or []) | map(attribute='text') | join",
        }[self.words]
        words = f"{{%- set words = {content} %}}"
        if self.words == "parts":
            part = "{% for p in m.content or [] %}{{ p['text'] if p['type'] == 'text' }}{% endfor %}"
            words = f"{{%- set words %}}{part}{{% endset %}}"
        generation, end = ("{% generation %}", "{% endgeneration %}") if self.marked else ("", "")
        call = "{{ '<call>' ~ c.function.name ~ ' ' ~ (c.function.arguments | tojson) ~ '</call>' }}"
        calls = f"{{%- for c in m.tool_calls or [] %}}{call}{{% endfor %}}"
        system = {
            "own": "{%- set rest = messages %}",
            "always": "{%- set rest = messages %}{%- if messages[0].role != 'system' %}"
            f"{{{{ {_quoted(self._head('system') + 'You help.' + self.after)} }}}}{{% endif %}}",
            "merged": "{%- set rest = messages %}{%- if messages[0].role == 'system' %}{%- set m = messages[0] %}"
            + words.replace("set words", "set system")
            + "{%- set rest = messages[1:] %}{% endif %}",
        }[self.system]
        first = "{{ (system ~ '\\n\\n') if system is defined and loop.first }}" if self.system == "merged" else ""
        heads = {role: _quoted(self._head(role)) for role in ROLES}
        head = "{{ {" + ", ".join(f"'{role}': {text}" for role, text in heads.items()) + "}[m.role] }}"
        return (
            f"{{{{ {_quoted(self.start)} }}}}{system}{{%- for m in rest %}}{words}{head}{first}"
            f"{{%- if m.role == 'assistant' %}}{generation}{{{{ words }}}}{calls}{{{{ {_quoted(self.after)} }}}}{end}"
            f"{{%- else %}}{{{{ words ~ {_quoted(self.after)} }}}}{{%- endif %}}{{%- endfor %}}"
            f"{{%- if add_generation_prompt %}}{{{{ {heads['assistant']} }}}}{{%- endif %}}"
        )

    def _head(self, role: str) -> str:
        return self.before.replace("{role}", role).replace("{ROLE}", role.upper())

    def _turn(self, message: Message, first: str = "") -> str:
        return self._head(message["role"]) + first + self._said(message) + self.after

    def _said(self, message: Message) -> str:
        calls = [one["function"] for one in message.get("tool_calls", [])]
        made = [f"<call>{one['name']} {json.dumps(one['arguments'], ensure_ascii=False)}</call>" for one in calls]
        return self._words(message) + "".join(made)

    def _words(self, message: Message) -> str:
        content = message.get("content") or ""
        words = "".join(part["text"] for part in content) if isinstance(content, list) else content
        return words.strip() if self.words == "trimmed" else words


def _quoted(text: str) -> str:
    return json.dumps(text)


def styles() -> st.SearchStrategy[Style]:
    return st.builds(
        Style,
        before=st.sampled_from(["<turn>{role}<turn>", "<turn>{role}\n", "{ROLE}: ", "### {role}:\n", "[{role}] "]),
        after=st.sampled_from(["</turn>", "</turn>\n", "<eos>", "<eos>\n", "\n\n", " "]),
        start=st.sampled_from(["", "<bos>"]),
        words=st.sampled_from(["as they are", "trimmed", "parts", "joined parts"]),
        system=st.sampled_from(["own", "merged", "always"]),
        marked=st.booleans(),
    )


@st.composite
def right_chats(draw: st.DrawFn) -> tuple[list[Message], dict[str, Any]]:
    """(the messages of a chat that every right template can write, a row that holds them in one of the layouts)."""
    said = texts.filter(lambda text: bool(text.strip()))
    contents = texts | st.lists(texts, min_size=1, max_size=2).map(
        lambda some: [{"type": "text", "text": one} for one in some]
    )
    chat: list[Message] = [{"role": "system", "content": draw(said)}] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        chat.append({"role": "user", "content": draw(contents)})
        if draw(st.integers(0, 4)) == 0:
            values = draw(st.dictionaries(st.sampled_from("xyz"), texts | st.integers() | st.booleans(), max_size=2))
            call = {
                "type": "function",
                "function": {"name": draw(st.sampled_from(["add", "look_up"])), "arguments": values},
            }
            content = draw(st.sampled_from([None, "", "Let me see."]))
            chat += [{"role": "assistant", "content": content, "tool_calls": [call]}]
            chat += [{"role": "tool", "content": draw(said)}]
        chat.append({"role": "assistant", "content": draw(said)})
    layout = draw(st.sampled_from(["messages", "prompt", "conversations", "pair"]))
    if layout == "prompt":
        return chat, {"prompt": chat[:-1], "completion": chat[-1:]}
    if layout == "pair":
        other = {"role": "assistant", "content": chat[-1]["content"] + "?"}
        return chat, {"prompt": chat[:-1], "chosen": chat[-1:], "rejected": [other]}
    if layout == "conversations" and all(isinstance(one["content"], str) and len(one) == 2 for one in chat):
        return chat, {"conversations": [{"from": one["role"], "value": one["content"]} for one in chat]}
    return chat, {"messages": chat}


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 400)
    | st.floats()
    | texts
    | st.text(st.characters(), max_size=3)
    | st.sampled_from(["[1, 0]", '{"a": 1}', "[", '[{"role": "user", "content": "q"}]']),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.sampled_from(["text", "type", "name", "arguments", "role", "content"]), inner, max_size=3)
    ),
    max_leaves=5,
)
CALLS = st.lists(
    st.fixed_dictionaries(
        {"function": st.fixed_dictionaries({"name": texts | VALUES, "arguments": VALUES})}, optional={"id": VALUES}
    )
    | st.fixed_dictionaries({"name": texts, "arguments": VALUES}),
    max_size=2,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from([*ROLES, "human", "gpt", "developer"]), "content": texts | texts | VALUES},
        optional={
            "tool_calls": CALLS | VALUES,
            "function_call": VALUES,
            "weight": VALUES | st.sampled_from([0, 1, 0.5]),
            "train": st.booleans() | VALUES,
            "reasoning_content": texts | VALUES,
            "name": VALUES,
        },
    )
    | VALUES,
    max_size=4,
)
IDS = st.lists(st.integers(0, 300), min_size=1, max_size=12)
COLUMNS: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(["messages", "conversations"], MESSAGES | MESSAGES | VALUES),
    **dict.fromkeys(["prompt", "completion", "chosen", "rejected"], texts | MESSAGES | VALUES),
    **dict.fromkeys(
        ["instruction", "input", "output", "question", "answer", "context", "text", "system"], texts | VALUES
    ),
    **dict.fromkeys(["tools", "functions", "documents", "chat_template_kwargs", "history"], VALUES),
    **dict.fromkeys(
        ["train_on", "weights", "weight"], VALUES | st.lists(st.sampled_from([0, 1, 0.5, True]), max_size=4)
    ),
    "input_ids": IDS | VALUES,
    "labels": st.lists(st.sampled_from([-100, 5]), max_size=12) | VALUES,
    **dict.fromkeys(["completion_mask", "attention_mask"], st.lists(st.booleans(), max_size=12) | VALUES),
    "id": texts | VALUES,
    "date_string": VALUES,
}
LAYOUTS = [
    *(
        ("messages",),
        ("conversations",),
        ("prompt", "completion"),
        ("chosen", "rejected"),
        ("prompt", "chosen", "rejected"),
    ),
    *(("instruction", "output"), ("question", "answer"), ("text",), ("input_ids",), ("input_ids", "labels")),
]


@st.composite
def any_rows(draw: st.DrawFn) -> dict[str, Any]:
    """A row of a known layout, or nearly, with other columns beside, and values of every kind."""
    if draw(st.booleans()):
        return draw(right_chats())[1] | draw(st.dictionaries(st.sampled_from(sorted(COLUMNS)), VALUES, max_size=1))
    names = [*draw(st.sampled_from(LAYOUTS)), *draw(st.lists(st.sampled_from(sorted(COLUMNS)), max_size=3))]
    return {name: draw(COLUMNS[name]) for name in names}


SNIPPETS = [
    *("{{ x.y }}", "{{ m.content.x.y }}", "{{ 1 // 0 }}", "{{ m.content[:3] }}", "{{ m }}", "{{ messages | length }}"),
    *("{{ raise_exception('no') }}", "{% if m.role == 'user' %}{{ raise_exception('x') }}{% endif %}", "{{ m.items }}"),
    *(
        "{{ strftime_now('%d %b') }}",
        "{{ m.content | tojson }}",
        "{{ m.content | upper }}",
        "{{ loop.index }}",
        "{{ tools }}",
    ),
    *("{% for m in messages[-1:] %}{{ m.content }}{% endfor %}", "{{ '' ~ m.content | reverse }}", "{{ date_string }}"),
    *(
        "{% generation %}x{% endgeneration %}",
        "{% break %}",
        "<turn>",
        "<eos>",
        "{{ eos_token * 3 }}",
        "{%",
        "{{ range(9) }}",
    ),
    *(
        "{{ messages[0].content | truncate(3) }}",
        "{% set m = {} %}",
        "{{ tools[0].name }}",
        "{{ self }}",
        "{{ cycler }}",
    ),
]


@st.composite
def any_templates(draw: st.DrawFn) -> str:
    """A right template, mostly with pieces cut out, put in, or turned around."""
    text = draw(styles()).jinja()
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(text)))
        if draw(st.booleans()):
            place = max(text.find("{%", place), 0)  # between two tags, where more of it stays a template
            text = text[:place] + draw(st.sampled_from(SNIPPETS)) + text[place:]
        else:
            stop = text.find(draw(st.sampled_from(["{%", "}}", " ", "~"])), place)
            text = text[:place] + text[max(stop, place) :]
    return text
