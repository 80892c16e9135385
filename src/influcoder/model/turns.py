"""Which characters of a chat's text carry loss, when a row or its reader chooses turn by turn."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from influcoder.data.messages import Chat, Message, RowError, calls_of, reasoning_of
from influcoder.data.values import common_length
from influcoder.model.template import ChatTemplate, special_tokens
from influcoder.model.words import called_words, pieces_of, says, without_thoughts

Span = tuple[int, int, float]
"""first character, the one after the last, and the weight of what lies between"""
_OPEN, _CLOSE = "\ue000", "\ue001"
"""characters that no template and hardly a row holds"""


def spans_of(
    template: ChatTemplate, chat: Chat, messages: Sequence[Message], variables: Mapping[str, Any], whole: str
) -> tuple[Span, ...]:
    """Where the messages with loss stand in the text of a chat.

    If only the assistant's turns count and the template marks them by `{% generation %}`, that is what it marks; else
    what each turn adds to the text, from where the assistant begins to speak.

    Args:
        messages: those of the chat, as the template takes them.
        whole: the text that it makes of them.

    Raises:
        RowError: the text of a turn cannot be found.
    """
    answers = [n for n, message in enumerate(messages) if message["role"] == "assistant"]
    counted = [n for n, weight in enumerate(chat.weights) if weight]
    if template.source(variables).marks_answers and set(counted) <= set(answers):
        marked = template.marked(messages, variables)
        weights = [chat.weights[n] for n in answers if n >= chat.prompt]
        if len(set(weights)) == 1:
            return tuple((start, stop, weights[0]) for start, stop in marked)
        if len(marked) == len(answers):
            return tuple((*place, chat.weights[n]) for place, n in zip(marked, answers, strict=True) if n in counted)
    return tuple((*_turn(template, n, messages, variables, whole), chat.weights[n]) for n in counted)


def _turn(
    template: ChatTemplate, number: int, messages: Sequence[Message], variables: Mapping[str, Any], whole: str
) -> tuple[int, int]:
    """Where a message stands: between what is rendered without it and what is rendered up to it."""
    message = messages[number]
    before = template.render(messages[:number], variables, ask=message["role"] == "assistant") if number else ""
    until = template.render(messages[: number + 1], variables) if number + 1 < len(messages) else whole
    start, stop = common_length(before, whole), common_length(until, whole)
    pieces, (names, values) = pieces_of(message), called_words(message)
    if start < stop and (not number or stands_before(messages[number - 1], whole, start)):
        for texts in (pieces, [without_thoughts(piece) for piece in pieces]):
            if all(says(whole[:stop], words, start) for words in (*texts, *names, *values)):
                return start, stop
    if names:
        return _turn_with_calls(template, number, message, whole, start)
    return _marked_turn(template, number, messages, variables, whole)


def _turn_with_calls(template: ChatTemplate, number: int, message: Message, whole: str, start: int) -> tuple[int, int]:
    """Where a message with tool calls stands: up to the end token behind the last of its words."""
    names, values = called_words(message)
    texts = [text.strip() for text in (*pieces_of(message), *names, *values)]
    places = [whole.find(text, start) for text in texts]
    last = max(place + len(text) for place, text in zip(places, texts, strict=True))
    stop = whole.find(template.end, last) if template.end else -1
    if min(places) < 0 or stop < 0 or any(opener in whole[last:stop] for opener in template.openers):
        raise _not_found(number, message)
    return start, stop + len(template.end)


def stands_before(message: Message, whole: str, place: int) -> bool:
    """Whether those words of a message that the text contains are before a place in it."""
    return all(says(whole[:place], piece) or not says(whole, piece) for piece in pieces_of(message))


def spans_of_answer(
    template: ChatTemplate, chat: Chat, messages: Sequence[Message], variables: Mapping[str, Any], whole: str
) -> tuple[Span, ...]:
    """Where a completion stands, its end tokens included, if its prompt is rendered differently once it is answered.

    This is so with templates that put the system's words, or tools, into the user's last turn. The common beginning of
    prompt and whole then ends before the question, which would carry loss.

    Raises:
        RowError: the completion cannot be told from the prompt.
    """
    try:
        places = [_marked_turn(template, n, messages, variables, whole) for n in range(chat.prompt, len(messages))]
        return tuple((start, stop, 1.0) for start, stop in places)
    except RowError:
        asked = pieces_of(messages[chat.prompt - 1])[-1].strip()
        if asked not in whole:
            raise
        return ((whole.rindex(asked) + len(asked), len(whole), 1.0),)


def _marked_turn(
    template: ChatTemplate, number: int, messages: Sequence[Message], variables: Mapping[str, Any], whole: str
) -> tuple[int, int]:
    """Where the words of a message and its end token stand, found by rendering the words between two characters.

    This finds turns that are rendered differently when more follow, as with templates that drop earlier thoughts.
    """
    message = messages[number]
    refused = _not_found(number, message)
    content = message.get("content")
    words = content[0].get("text") if isinstance(content, list) and len(content) == 1 else content
    thoughts = reasoning_of(message) or (words.removesuffix(without_thoughts(words)) if isinstance(words, str) else "")
    if not isinstance(words, str) or calls_of(message):
        raise refused
    core = without_thoughts(words).strip()
    if not core:
        raise refused
    place = words.rindex(core)
    enclosed: Any = words[:place] + _OPEN + core + _CLOSE + words[place + len(core) :]
    enclosed = [{"type": "text", "text": enclosed}] if isinstance(content, list) else enclosed
    text = template.render([*messages[:number], {**message, "content": enclosed}, *messages[number + 1 :]], variables)
    start, stop = text.find(_OPEN), text.find(_CLOSE) - 1
    if not 0 <= start < stop or text.replace(_OPEN, "").replace(_CLOSE, "") != whole:
        raise refused
    before = template.render(messages[:number], variables, ask=True) if number else ""
    if thoughts and says(whole[common_length(before, whole) : start], thoughts):
        raise refused  # they are of this turn, and would be left out
    end = re.compile(rf"\s*(?:{special_tokens(template.tokenizer).pattern})").match(whole, stop)
    return start, end.end() if end else stop


def _not_found(number: int, message: Message) -> RowError:
    return RowError(
        "turn_not_found",
        f"the chat template writes the {message['role']}'s turn {number} differently when more turns follow, so its "
        "tokens cannot be found; mark the assistant's words by {% generation %} in the template",
    )
