"""The chat template of a tokenizer: the text it makes of a chat, what it reads, and a clock that stands still."""

import datetime
import inspect
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
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
"""what `strftime_now` tells every template: the date that Llama 3's have where there is no clock"""
ASKED, SAID = "quartzfen", "bluevixen"
"""words of a chat by which it is seen what a template does with contents"""
_OBJECT = re.compile(r"<[^<>]* at 0x[0-9a-f]+>")
_THOUGHTS = re.compile(r"<(think|thinking|reasoning|thought)>.*</\1>", re.DOTALL)
_MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")


class _Generation(jinja2.ext.Extension):
    """`{% generation %}`, which transformers knows and Jinja does not, so that templates can be looked into."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja has it

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


_ENVIRONMENT = jinja2.sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
)


@dataclass(frozen=True)
class Source:
    """A template's text, its clock stopped, and what it reads.

    Attributes:
        text: what transformers is given.
        names: every name, key and text in it: a field that is not among them is not read by its name.
        variables: what it expects beside messages.
    """

    text: str
    names: frozenset[str]
    variables: frozenset[str]

    @classmethod
    def of(cls, text: str) -> "Source":
        """Look into a template.

        Raises:
            ModelError: it is no Jinja template, or draws at random, so that no text would be the same again.
        """
        try:
            tree = _ENVIRONMENT.parse(text)
            free = jinja2.meta.find_undeclared_variables(tree) - set(_ENVIRONMENT.globals)
        except (jinja2.TemplateError, RecursionError) as error:
            raise ModelError(f"the chat template cannot be read: {first_line(error)}. Mend it.") from error
        texts = {str(node.value) for node in tree.find_all(jinja2.nodes.Const) if isinstance(node.value, str)}
        names = {node.name for node in tree.find_all(jinja2.nodes.Name)}
        if "lipsum" in names or any(node.name == "random" for node in tree.find_all(jinja2.nodes.Filter)):
            raise ModelError("the chat template draws at random, so no text would be the same again. Mend it.")
        keys = {node.attr for node in tree.find_all(jinja2.nodes.Getattr)}
        fixed = _stopped_clock(texts) + text if "strftime_now" in names else text
        return cls(fixed, frozenset(texts | names | keys), frozenset(free - {"raise_exception", "strftime_now"}))

    @property
    def marks_answers(self) -> bool:
        """Whether `{% generation %}` says what of the text is the assistant's."""
        return bool(_MARK.search(self.text))


def _stopped_clock(texts: set[str]) -> str:
    """A macro that takes the place of the clock; the newline belongs to its last tag, which eats it."""
    told = {one: CLOCK.strftime(one) for one in sorted(texts) if "%" in one}
    return (
        "{%- macro strftime_now(format) -%}{%- set told = " + json.dumps(told, ensure_ascii=False) + " -%}"
        "{{ told[format] if format in told else raise_exception('strftime_now of an unknown format') }}"
        "{%- endmacro %}\n"
    )


class ChatTemplate:
    """Renders chats with a tokenizer's chat template; of several, that of tools for chats with tools.

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
        held = self.tokenizer.chat_template
        if isinstance(held, dict):
            wanted = "tool_use" if variables.get("tools") and "tool_use" in held else "default"
            if wanted not in held and len(held) > 1:
                raise RowError(
                    "no_default_template",
                    f"{self.name} has the chat templates {sorted(held)} and none called default, so none is chosen; "
                    "set tokenizer.chat_template to one of them and save it",
                )
            held = held.get(wanted) or next(iter(held.values()))
        if held not in self._sources:
            try:
                self._sources[held] = Source.of(held)
            except ModelError as error:
                raise ModelError(f"{self.name}: {error}") from error.__cause__
            if self._sources[held].text != held:
                logger.warning(
                    "%s: the chat template asks for the date and is told %s, always.", self.name, CLOCK.date()
                )
        return self._sources[held]

    def variables(self, given: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
        """What a chat hands the template beside its messages: what it has for it, and columns of the names it reads."""
        wanted = self.source(given).variables - self._reserved - set(self.tokenizer.special_tokens_map) - {"tools"}
        return {name: metadata[name] for name in sorted(wanted) if metadata.get(name) is not None} | dict(given)

    def render(self, messages: Sequence[Message], variables: Mapping[str, Any], *, ask: bool = False) -> str:
        """The text of a chat; with `ask`, up to where the assistant begins to speak.

        Raises:
            RowError: the template refuses it, in its own words, or writes where in memory something lies.
        """
        text = str(
            self._applied(
                self.tokenizer.apply_chat_template, messages, variables, tokenize=False, add_generation_prompt=ask
            )
        )
        if (found := _OBJECT.search(text)) and found[0] not in json.dumps(
            [*messages, variables], ensure_ascii=False, default=str
        ):
            raise RowError(
                "template_prints_object",
                f"the chat template writes {found[0]!r}, which is another text every time: it reads a name that every "
                "object has, as {{ x.items }} in place of {{ x['items'] }}. Mend it",
            )
        return text

    def marked(self, messages: Sequence[Message], variables: Mapping[str, Any]) -> list[tuple[int, int]]:
        """Where in the text of a chat the parts stand that `{% generation %}` marks as the assistant's."""

        def applied(messages: list[Message], tools: Any = None, documents: Any = None, **more: Any) -> Any:
            known = [{key: value for key, value in one.items() if value is not None} for one in messages]
            names = {**self.tokenizer.special_tokens_map, **more}
            return render_jinja_template([known], tools, documents, return_assistant_tokens_mask=True, **names)

        _, places = self._applied(applied, messages, variables)
        return [(start, stop) for start, stop in places[0] if start < stop]

    def _applied(self, function: Any, messages: Sequence[Message], variables: Mapping[str, Any], **more: Any) -> Any:
        if clash := sorted(set(variables) & self._reserved):
            raise RowError("bad_variables", f"chat_template_kwargs sets {clash[0]!r}, which is not the row's to set")
        try:
            text = self.source(variables).text
            return function([dict(one) for one in messages], chat_template=text, **dict(variables), **more)
        except (ModelError, RowError):
            raise
        except Exception as error:  # a template may fail in every way that Python does
            words = str(error) if isinstance(error, jinja2.TemplateError) else f"{type(error).__name__}: {error}"
            raise RowError("template_refused", f"the chat template refuses it: {' '.join(words.split())}") from error

    @cached_property
    def part_forms(self) -> list[tuple[bool, bool]]:
        """(of what is asked, of the assistant): whether contents may be lists of parts, the likeliest way first.

        Seen by what the template makes of two words. One that makes nothing of them is given text.
        """
        ways = [(False, False), (True, True), (True, False), (False, True)]
        return [way for way in ways if self._renders(*way)] or ways[:1]

    def _renders(self, asked: bool, said: bool) -> bool:
        contents = [
            [{"type": "text", "text": word}] if parts else word for word, parts in ((ASKED, asked), (SAID, said))
        ]
        turns = [{"role": role, "content": one} for role, one in zip(("user", "assistant"), contents, strict=True)]
        for messages in (turns, [{"role": "system", "content": contents[0]}, *turns]):
            try:
                text = self.render(messages, {})
            except (ModelError, RowError):
                continue
            # What the list itself looks like when it is printed is not its text.
            return ASKED in text.lower() and SAID in text.lower() and not re.search("['\"]text['\"]", text)
        return False

    @cached_property
    def openers(self) -> frozenset[str]:
        """The special tokens with which it begins a user's turn: no text of a row should begin with one."""
        special = special_tokens(self.tokenizer)
        return frozenset(special.findall(self._probe()[0].rpartition(ASKED)[0])) if special else frozenset()

    @cached_property
    def around_question(self) -> tuple[str, str]:
        """The last word that it writes before what a user asks, and all that it writes behind it; ("", "") of none."""
        before, _, behind = self._probe()[0].rpartition(ASKED)
        special = special_tokens(self.tokenizer)
        before = special.sub(" ", before) if special else before
        return (before.split()[-1], behind.strip()) if before.strip() and behind.strip() else ("", "")

    @cached_property
    def end(self) -> str:
        """The special token that it writes right behind an answer; "" of none."""
        special = special_tokens(self.tokenizer)
        found = special.match(self._probe()[1].rpartition(SAID)[2].lstrip()) if special else None
        return found[0] if found else ""

    @cached_property
    def header_with_loss(self) -> str:
        """What it writes before an answer, thoughts apart, without writing it where one is asked for; "" of nothing."""
        asked, whole = self._probe()
        before, said, _ = whole[len(asked) :].partition(SAID) if whole.startswith(asked) else ("", "", "")
        return _THOUGHTS.sub("", before).strip() if said else ""

    def _probe(self) -> tuple[str, str]:
        """A question's text up to where it is to be answered, and its text with the answer; ("", "") where it fails."""
        contents = [
            [{"type": "text", "text": word}] if parts else word
            for word, parts in zip((ASKED, SAID), self.part_forms[0], strict=True)
        ]
        turns = [{"role": role, "content": one} for role, one in zip(("user", "assistant"), contents, strict=True)]
        try:
            return self.render(turns[:1], {}, ask=True), self.render(turns, {})
        except (ModelError, RowError):
            return "", ""


def template_date(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The date that a tokenizer's template is told; None where it does not ask."""
    return CLOCK.date().isoformat() if "strftime_now" in str(tokenizer.chat_template) else None


def fixed_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """The text of a tokenizer's template or templates as they are used, which a fingerprint is taken of."""
    held = tokenizer.chat_template
    if template_date(tokenizer) is None:
        return str(held)
    try:
        texts = held.items() if isinstance(held, dict) else [("", held)]
        return str({name: Source.of(text).text for name, text in texts})
    except ModelError:
        return str(held)


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str] | None:
    """What finds a tokenizer's special tokens in a text; None where it has none."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    tokens = sorted({one for one in added | set(tokenizer.all_special_tokens) if one}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, tokens))) if tokens else None
