"""What a chat reads like: rendered as its template takes it, and held against the words that the row has.

A template that does not read what it is given raises nothing: it renders less. So the words of every message are
looked for in the text, whatever the template does to case, spacing and escapes. Where those of the completion are
missing, the chat is refused; what else is missing is named.
"""

import html
import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from influcoder.data.examples import Example
from influcoder.data.messages import (
    REASONING,
    SWITCHES,
    Chat,
    Message,
    RowError,
    calls_of,
    from_json,
    reasoning_of,
    words_of,
)
from influcoder.model.template import ChatTemplate, special_tokens

Span = tuple[int, int, float]
_THOUGHT = re.compile(r"^.*</(think|thinking|reasoning|thought)>", re.DOTALL)
_SHOWN = 240
_NO_FIELDS = frozenset({"role", "content", "weight", "tool_calls", "function_call", *REASONING, *SWITCHES})


@dataclass(frozen=True, slots=True)
class Text:
    """A text to tokenise, and what of it carries loss.

    Attributes:
        prompt: what comes before the completion, as it stands when the completion is still to come.
        whole: prompt and completion.
        templated: whether a template made it, which has written the special tokens.
        said: words that the tokens with loss must hold.
        spans: (start, stop, weight) of the characters with loss; all that follows the prompt where it is None.
        lost: fields of the row that are not in the text.
    """

    prompt: str
    whole: str
    templated: bool
    said: tuple[str, ...]
    spans: tuple[Span, ...] | None = None
    lost: tuple[str, ...] = ()


def chat_of(example: Example) -> Chat:
    """The chat of an example that is one."""
    if isinstance(example.given, Chat):
        return example.given
    turns = [*example.turns, ("assistant", example.completion)]
    return Chat(tuple({"role": role, "content": content} for role, content in turns), len(example.turns))


class Renderer:
    """Renders chats.

    Args:
        template: of the decoder.
    """

    def __init__(self, template: ChatTemplate) -> None:
        self.template = template
        self._special = special_tokens(template.tokenizer)

    def text(self, example: Example) -> Text:
        """The text of a chat.

        Raises:
            RowError: the template refuses it, or does not render the completion; it is rendered already.
        """
        chat = chat_of(example)
        variables = self.template.variables(chat.variables, example.metadata)
        self._refuse_rendered(chat)
        found: list[tuple[int, Text]] = []
        refused: RowError | None = None
        for messages in self._forms(chat.messages):
            try:
                found.append(self._rendered(chat, messages, variables))
            except RowError as error:
                refused = refused or error
            else:
                if not found[-1][0]:
                    break
        if not found:
            raise refused or RowError("no_messages", "the chat is empty")
        return min(found, key=lambda one: one[0])[1]

    def prompt(self, example: Example) -> str:
        """The text of a chat up to where the assistant is to speak."""
        chat = chat_of(example)
        counted = [n for n, one in enumerate(chat.messages) if one["role"] == "assistant" and chat.carries_loss(n)]
        asked = chat.prompt or (counted[-1] if counted else 0)
        if not asked:
            return ""
        variables = self.template.variables(chat.variables, example.metadata)
        refused: RowError | None = None
        for messages in self._forms(chat.messages[:asked]):
            try:
                return self.template.render(messages, variables, ask=True)
            except RowError as error:
                refused = refused or error
        raise refused or RowError("no_messages", "the chat is empty")

    def _forms(self, messages: Sequence[Message]) -> Iterator[list[Message]]:
        """The ways to hand a template some messages, the likeliest first."""
        parts, kept = self.template.wants_parts, self.template.takes_parts
        contents = (_as_parts, _as_text) if parts else (_as_text if not kept else _as_it_is, _as_parts)
        repairs: list[Callable[[Message], Message]] = [dict]
        if any("content" not in one or not isinstance(one["content"], str) or "tool_calls" in one for one in messages):
            repairs += [_mended, _with_text_arguments]
        for repair in repairs:
            for form in contents:
                yield [form(repair(one)) for one in messages]

    def _rendered(self, chat: Chat, messages: list[Message], variables: Mapping[str, Any]) -> tuple[int, Text]:
        """(how many turns before the completion it leaves out, the text)."""
        whole = self.template.render(messages, variables)
        prompt = self.template.render(messages[: chat.prompt], variables, ask=True) if chat.prompt else ""
        spans = self._spans(chat, messages, variables, whole) if chat.weights else None
        shown, after = self._blank(whole), _common(prompt, whole)
        said: list[str] = []
        lost: list[str] = []
        asked = missing = 0
        for number, message in enumerate(chat.messages):
            if chat.carries_loss(number):
                kept = self._kept(message, shown, after)
                said += kept
                lost += ["thoughts in the completion"] if kept and kept[: len(_said(message))] != _said(message) else []
            elif pieces := _said(message):
                asked += 1
                if not all(self._says(shown, one) or self._says(shown, without_thoughts(one)) for one in pieces):
                    missing += 1
                    lost.append(f"content of the {message['role']}'s turn")
        if asked and asked == missing:
            raise RowError(
                "prompt_not_rendered",
                f"the chat template renders nothing of what comes before the completion; it makes {_excerpt(whole)} "
                "of the chat",
            )
        lost += self._lost_fields(chat, variables, shown)
        return missing, Text(prompt, whole, True, tuple(said), spans, tuple(dict.fromkeys(lost)))

    def _lost_fields(self, chat: Chat, variables: Mapping[str, Any], shown: str) -> Iterator[str]:
        """Fields that the template has no name for, and that do not stand in the text either."""
        names = self.template.source(variables).names
        yield from (name for name in chat.variables if name not in names)
        for message in chat.messages:
            whose = f"of the {message['role']}'s turn"
            if calls_of(message) and not any(self._says(shown, name) for name, _ in calls_of(message)):
                yield f"tool_calls {whose}"
            if (thought := reasoning_of(message)) and not self._says(shown, thought):
                yield f"reasoning {whose}"
            for key, value in message.items():
                if key not in _NO_FIELDS and key not in names and not self._says(shown, str(value)):
                    yield f"{key} {whose}"

    def _spans(self, chat: Chat, messages: list[Message], variables: Mapping[str, Any], whole: str) -> tuple[Span, ...]:
        """Where the messages with loss stand: what `{% generation %}` marks, or what each adds to the text."""
        answers = [n for n, one in enumerate(messages) if one["role"] == "assistant"]
        weights = [chat.weights[n] for n in answers]
        others = any(weight for n, weight in enumerate(chat.weights) if n not in answers)
        if self.template.source(variables).marks_answers and not others:
            marked = self.template.marked(messages, variables)
            alike = len({weight for n, weight in zip(answers, weights, strict=True) if n >= chat.prompt}) == 1
            if alike:
                return tuple((start, stop, max(weights)) for start, stop in marked)
            if len(marked) == len(answers):
                return tuple((*place, weight) for place, weight in zip(marked, weights, strict=True) if weight)
        return tuple(
            (*self._turn(number, messages, variables, whole), weight)
            for number, weight in enumerate(chat.weights)
            if weight
        )

    def _turn(self, number: int, messages: list[Message], variables: Mapping[str, Any], whole: str) -> tuple[int, int]:
        """Where a message stands in the text: from what comes before it to what it ends."""
        answers = messages[number]["role"] == "assistant"
        before = self.template.render(messages[:number], variables, ask=answers) if number else ""
        until = self.template.render(messages[: number + 1], variables) if number + 1 < len(messages) else whole
        start, stop = _common(before, whole), _common(until, whole)
        shown = self._blank(whole[:stop])
        if stop <= start or not all(self._says(shown, one, start) for one in _said(messages[number])):
            raise RowError(
                "turn_not_found",
                f"the chat template writes the {messages[number]['role']}'s turn {number} differently when more turns "
                "follow, so its tokens cannot be told; mark the assistant's words by {% generation %} in the template",
            )
        return start, stop

    def _refuse_rendered(self, chat: Chat) -> None:
        for number, message in enumerate(chat.messages):
            words = words_of(message).lstrip()
            token = next((one for one in self.template.openers if words.startswith(one)), None)
            if token is not None:
                raise RowError(
                    "rendered_already",
                    f"message {number} begins with {token!r}, which the chat template writes itself, so its text is "
                    "rendered already and would be again; give it as text, or as prompt and completion in text",
                )

    def _kept(self, message: Message, shown: str, after: int) -> list[str]:
        """The words of a message with loss that are in the text: all, or those that follow the thoughts in them.

        Raises:
            RowError: some are not.
        """
        names = [name for name, _ in calls_of(message) if name]
        said = _said(message)
        without = [without_thoughts(one) for one in said]
        for some in [said, without] if any(one.strip() for one in without) else [said]:
            if all(self._says(shown, one, after) for one in (*some, *names)):
                return [*some, *names]
        lost = next((one for one in (*said, *names) if not self._says(shown, one, after)), "")
        raise RowError(
            "completion_not_rendered",
            f"{'the tool call' if lost in names else 'the completion'} {_excerpt(lost)} does not stand in what the "
            f"chat template renders for it, {_excerpt(shown[after:].strip())}",
        )

    def _says(self, shown: str, words: str, after: int = -1) -> bool:
        return says(shown, self._blank(words), after)

    def _blank(self, text: str) -> str:
        """The text with spaces in the place of special tokens, which are not a row's words."""
        return self._special.sub(lambda found: " " * len(found[0]), text) if self._special else text


def without_thoughts(words: str) -> str:
    """Words without the thoughts that stand before them in tags, which many templates take out."""
    return _THOUGHT.sub("", words)


def says(text: str, words: str, after: int = -1) -> bool:
    """Whether some words stand in a text so that they end after a place, whatever was done to case and spacing.

    >>> says("USER: hi ASSISTANT:  four ", "Four", after=9), says("USER: four ASSISTANT: ", "four", after=11)
    (True, False)
    """
    words = words.strip()
    if not words or _ends_after(text, words, after):
        return True
    for form in (_squeezed, _letters):
        changed, place = form(text), len(form(text[: max(after, 0)]))
        for escaped in (words, json.dumps(words, ensure_ascii=False)[1:-1], html.escape(words)):
            if (found := form(escaped)) and _ends_after(changed, found, place if after >= 0 else -1):
                return True
    return False


def _ends_after(text: str, words: str, after: int) -> bool:
    place = text.rfind(words)
    return place >= 0 and place + len(words) > after


def _squeezed(text: str) -> str:
    return "".join(text.split()).casefold()


def _letters(text: str) -> str:
    return "".join(one for one in unicodedata.normalize("NFKD", text).casefold() if one.isalnum())


def _as_it_is(message: Message) -> Message:
    return message


def _as_text(message: Message) -> Message:
    return {**message, "content": words_of(message)} if isinstance(message.get("content"), list) else message


def _as_parts(message: Message) -> Message:
    content = message.get("content")
    return {**message, "content": [{"type": "text", "text": content}]} if isinstance(content, str) else message


def _mended(message: Message) -> Message:
    """For templates that need text where there is none, and objects where arguments are JSON."""
    calls = [_with_arguments(one, lambda value: from_json(value, dict)) for one in message.get("tool_calls", ())]
    return {**message, "content": words_of(message), **({"tool_calls": calls} if calls else {})}


def _with_text_arguments(message: Message) -> Message:
    """For templates that need arguments as JSON."""

    def as_text(value: Any) -> Any:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    mended = _mended(message)
    calls = [_with_arguments(one, as_text) for one in mended.get("tool_calls", ())]
    return {**mended, **({"tool_calls": calls} if calls else {})}


def _with_arguments(call: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    if isinstance(call.get("function"), Mapping):
        return {**call, "function": _with_arguments(call["function"], change)}
    return {**call, "arguments": change(call["arguments"])} if "arguments" in call else dict(call)


def _common(one: str, other: str) -> int:
    """How many characters two texts have in common from their beginning."""
    if other.startswith(one):
        return len(one)
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(other))


def _said(message: Message) -> list[str]:
    """The texts of which the content of a message is made: one, the parts, or what a tool's JSON value holds."""
    content = message.get("content")
    return [one for one in _leaves(content) if one.strip()] if content is not None else []


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = [value["text"]] if value.get("type") == "text" and "text" in value else list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _leaves(one)
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        yield str(value)


def _excerpt(text: str) -> str:
    shown = text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]} ... {text[-_SHOWN // 2 :]}"
    return repr(shown)
