"""The chat template of a tokenizer: the text it makes of a chat, what it reads, and a clock that is stopped."""

import datetime
import inspect
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jinja2.ext
import jinja2.meta
import jinja2.nodes
import jinja2.sandbox
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from influcoder.data.messages import Message, RowError
from influcoder.errors import ModelError, first_line

logger = logging.getLogger("influcoder")

CLOCK = datetime.datetime(2024, 7, 26)
"""the date that `strftime_now` gives every template: that of Llama 3's templates where there is no clock"""
ASKED, ANSWERED = "quartzfen", "bluevixen"
"""the contents of a trial chat, which shows what a template does with contents"""
_OBJECT = re.compile(r"<[^<>]* at 0x[0-9a-f]+>")
_THOUGHTS = re.compile(r"<(think|thinking|reasoning|thought)>.*</\1>", re.DOTALL)
_MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")


class _Generation(jinja2.ext.Extension):
    """`{% generation %}`, which transformers knows and Jinja does not, so that templates can be parsed."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja has it

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


_ENVIRONMENT = jinja2.sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
)


@dataclass(frozen=True)
class Source:
    """A template's text, with its clock stopped, and what it reads.

    Attributes:
        text: as it is given to transformers.
        names: every name, key and text in it: a field that is not among them is not read by its name.
        variables: what it expects besides messages.
    """

    text: str
    names: frozenset[str]
    variables: frozenset[str]

    @classmethod
    def of(cls, text: str) -> "Source":
        """Parse a template.

        Raises:
            ModelError: it is not a Jinja template, or draws at random, so that no text could be made twice.
        """
        try:
            tree = _ENVIRONMENT.parse(text)
            free = jinja2.meta.find_undeclared_variables(tree) - set(_ENVIRONMENT.globals)
        except (jinja2.TemplateError, RecursionError) as error:
            raise ModelError(f"the chat template cannot be read: {first_line(error)}. Correct it.") from error
        texts = {str(node.value) for node in tree.find_all(jinja2.nodes.Const) if isinstance(node.value, str)}
        names = {node.name for node in tree.find_all(jinja2.nodes.Name)}
        if "lipsum" in names or any(node.name == "random" for node in tree.find_all(jinja2.nodes.Filter)):
            raise ModelError("the chat template draws at random, so no text could be made twice. Correct it.")
        keys = {node.attr for node in tree.find_all(jinja2.nodes.Getattr)}
        fixed = _stopped_clock(texts) + text if "strftime_now" in names else text
        return cls(fixed, frozenset(texts | names | keys), frozenset(free - {"raise_exception", "strftime_now"}))

    @property
    def marks_answers(self) -> bool:
        """Whether `{% generation %}` says what of the text is the assistant's."""
        return bool(_MARK.search(self.text))


def _stopped_clock(texts: set[str]) -> str:
    """A macro that replaces the clock; the newline belongs to its last tag, which removes it.

    Its text is part of the tokenizer's hash, so it stays as it is.
    """
    dates = {text: CLOCK.strftime(text) for text in sorted(texts) if "%" in text}
    return (
        "{%- macro strftime_now(format) -%}{%- set told = " + json.dumps(dates, ensure_ascii=False) + " -%}"
        "{{ told[format] if format in told else raise_exception('strftime_now of an unknown format') }}"
        "{%- endmacro %}\n"
    )


class ChatTemplate:
    """Renders chats with a tokenizer's chat template; if it has several, chats with tools get the one for tools.

    Args:
        tokenizer: whose template it is.
        name: of the decoder, for messages.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
        self.tokenizer = tokenizer
        self.name = name
        self._sources: dict[str, Source] = {}
        reserved = set(inspect.signature(tokenizer.apply_chat_template).parameters)
        self._reserved = (reserved | {"messages"}) - {"tools", "documents", "kwargs"}

    def source(self, variables: Mapping[str, Any]) -> Source:
        """The template that renders a chat with these variables.

        Raises:
            RowError: there are several, and none of them is the default.
            ModelError: it cannot be used.
        """
        template = self.tokenizer.chat_template
        if isinstance(template, dict):
            wanted = "tool_use" if variables.get("tools") and "tool_use" in template else "default"
            if wanted not in template and len(template) > 1:
                raise RowError(
                    "no_default_template",
                    f"{self.name} has the chat templates {sorted(template)} and none called default; set "
                    "tokenizer.chat_template to one of them and save it",
                )
            template = template.get(wanted) or next(iter(template.values()))
        if template not in self._sources:
            try:
                self._sources[template] = Source.of(template)
            except ModelError as error:
                raise ModelError(f"{self.name}: {error}") from error.__cause__
            if self._sources[template].text != template:
                logger.warning("%s: the chat template asks for the date and always gets %s.", self.name, CLOCK.date())
        return self._sources[template]

    def variables(self, given: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
        """What the template is given besides messages: the chat's own variables, and columns whose names it reads."""
        wanted = self.source(given).variables - self._reserved - set(self.tokenizer.special_tokens_map) - {"tools"}
        return {name: metadata[name] for name in sorted(wanted) if metadata.get(name) is not None} | dict(given)

    def render(self, messages: Sequence[Message], variables: Mapping[str, Any], *, ask: bool = False) -> str:
        """The text of a chat; with `ask`, up to where the assistant begins to speak.

        Raises:
            RowError: the template refuses it, in its own words, or writes an address in memory.
        """
        apply = partial(self.tokenizer.apply_chat_template, tokenize=False, add_generation_prompt=ask)
        text = str(self._applied(apply, messages, variables))
        row = json.dumps([*messages, variables], ensure_ascii=False, default=str)
        if (match := _OBJECT.search(text)) and match[0] not in row:
            raise RowError(
                "template_prints_object",
                f"the chat template writes {match[0]!r}, which is another text every time: it reads a name that every "
                "object has, as {{ x.items }} in place of {{ x['items'] }}. Correct the template",
            )
        return text

    def marked(self, messages: Sequence[Message], variables: Mapping[str, Any]) -> list[tuple[int, int]]:
        """The parts of a chat's text that `{% generation %}` marks as the assistant's: (start, stop) of each."""

        def applied(messages: list[Message], tools: Any = None, documents: Any = None, **more: Any) -> Any:
            known = [{key: value for key, value in message.items() if value is not None} for message in messages]
            names = {**self.tokenizer.special_tokens_map, **more}
            return render_jinja_template([known], tools, documents, return_assistant_tokens_mask=True, **names)

        _, places = self._applied(applied, messages, variables)
        return [(start, stop) for start, stop in places[0] if start < stop]

    def _applied(self, function: Any, messages: Sequence[Message], variables: Mapping[str, Any]) -> Any:
        if clash := sorted(set(variables) & self._reserved):
            raise RowError("bad_variables", f"chat_template_kwargs sets {clash[0]!r}, which a row cannot set")
        try:
            text = self.source(variables).text
            return function([dict(message) for message in messages], chat_template=text, **dict(variables))
        except (ModelError, RowError):
            raise
        except Exception as error:  # a template may fail in every way that Python does
            words = str(error) if isinstance(error, jinja2.TemplateError) else f"{type(error).__name__}: {error}"
            raise RowError("template_refused", f"the chat template refuses it: {' '.join(words.split())}") from error

    @cached_property
    def part_forms(self) -> list[tuple[bool, bool]]:
        """(of the question, of the answer): whether contents may be lists of parts, the likeliest form first.

        Found by rendering a trial chat. A template that renders no form of it is given text.
        """
        forms = [(False, False), (True, True), (True, False), (False, True)]
        return [form for form in forms if self._renders(form)] or forms[:1]

    def _renders(self, form: tuple[bool, bool]) -> bool:
        turns = _trial_chat(form)
        for messages in (turns, [{**turns[0], "role": "system"}, *turns]):
            try:
                text = self.render(messages, {})
            except (ModelError, RowError):
                continue
            # A list that is printed as such is not rendered.
            return ASKED in text.lower() and ANSWERED in text.lower() and not re.search("['\"]text['\"]", text)
        return False

    @cached_property
    def openers(self) -> frozenset[str]:
        """The special tokens that begin a user's turn: no text of a row should begin with one of them."""
        return frozenset(special_tokens(self.tokenizer).findall(self._probe()[0].rpartition(ASKED)[0]))

    @cached_property
    def around_question(self) -> tuple[str, str]:
        """The last word before a user's question, and all that follows the question; ("", "") if either is empty."""
        before, _, behind = self._probe()[0].rpartition(ASKED)
        before = special_tokens(self.tokenizer).sub(" ", before)
        return (before.split()[-1], behind.strip()) if before.strip() and behind.strip() else ("", "")

    @cached_property
    def end(self) -> str:
        """The special token right after an answer; "" if there is none."""
        match = special_tokens(self.tokenizer).match(self._probe()[1].rpartition(ANSWERED)[2].lstrip())
        return match[0] if match else ""

    @cached_property
    def header_with_loss(self) -> str:
        """What precedes an answer, thoughts apart, and is not written where an answer is asked for; "" if nothing."""
        asked, whole = self._probe()
        before, answer, _ = whole[len(asked) :].partition(ANSWERED) if whole.startswith(asked) else ("", "", "")
        return _THOUGHTS.sub("", before).strip() if answer else ""

    def _probe(self) -> tuple[str, str]:
        """The text of the trial chat up to its answer, and with its answer; ("", "") where it cannot be rendered."""
        turns = _trial_chat(self.part_forms[0])
        try:
            return self.render(turns[:1], {}, ask=True), self.render(turns, {})
        except (ModelError, RowError):
            return "", ""


def _trial_chat(form: tuple[bool, bool]) -> list[Message]:
    """A question and an answer, each as text or as a list of parts."""
    return [
        {"role": role, "content": [{"type": "text", "text": word}] if in_parts else word}
        for role, word, in_parts in zip(("user", "assistant"), (ASKED, ANSWERED), form, strict=True)
    ]


def template_date(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The date that a tokenizer's template gets; None where it does not ask for one."""
    return CLOCK.date().isoformat() if "strftime_now" in str(tokenizer.chat_template) else None


def fixed_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """The text of a tokenizer's templates as they are used, for its fingerprint."""
    template = tokenizer.chat_template
    if template_date(tokenizer) is None:
        return str(template)
    try:
        texts = template.items() if isinstance(template, dict) else [("", template)]
        return str({name: Source.of(text).text for name, text in texts})
    except ModelError:
        return str(template)


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
    """A pattern that matches a tokenizer's special tokens, and nothing if it has none."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    tokens = sorted((added | set(tokenizer.all_special_tokens)) - {""}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, tokens)) or "(?!)")
