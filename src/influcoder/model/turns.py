"""Where in the text of a chat the turns stand that carry loss, when a row or its reader says so turn by turn."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from influcoder.data.messages import Chat, Message, RowError, calls_of, reasoning_of
from influcoder.model.template import ChatTemplate, special_tokens
from influcoder.model.words import called_words, common_length, pieces_of, says, without_thoughts

Span = tuple[int, int, float]
"""first character, the one after the last, and the weight of what lies between"""
_OPEN, _CLOSE = "\ue000", "\ue001"
"""characters that no template and hardly a row holds"""


def spans_of(
    template: ChatTemplate, chat: Chat, messages: Sequence[Message], variables: Mapping[str, Any], whole: str
) -> tuple[Span, ...]:
    """Where the messages of a chat stand that carry loss.

    That is what the template marks by `{% generation %}`, where it does and only the assistant's turns count; else what
    each turn adds to the text, from where the assistant begins to speak.

    Args:
        messages: those of the chat, as the template takes them.
        whole: the text that it makes of them.

    Raises:
        RowError: a turn cannot be told from the rest.
    """
    answers = [n for n, one in enumerate(messages) if one["role"] == "assistant"]
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
        for some in (pieces, [without_thoughts(one) for one in pieces]):
            if all(says(whole[:stop], one, start) for one in (*some, *names, *values)):
                return start, stop
    if names:
        return _turn_with_calls(template, number, message, whole, start)
    return _marked_turn(template, number, messages, variables, whole)


def _turn_with_calls(template: ChatTemplate, number: int, message: Message, whole: str, start: int) -> tuple[int, int]:
    """Where a message with tool calls stands: up to the end token behind the last of its words."""
    words = [one for each in (pieces_of(message), *called_words(message)) for one in each]
    places = [whole.find(one.strip(), start) for one in words]
    last = max(place + len(one.strip()) for place, one in zip(places, words, strict=True))
    stop = whole.find(template.end, last) if template.end else -1
    if min(places) < 0 or stop < 0 or any(one in whole[last:stop] for one in template.openers):
        raise _not_found(number, message)
    return start, stop + len(template.end)


def stands_before(message: Message, whole: str, place: int) -> bool:
    """Whether the words of a message, where the text has them at all, stand before a place in it."""
    return all(says(whole[:place], one) or not says(whole, one) for one in pieces_of(message))


def spans_of_answer(
    template: ChatTemplate, chat: Chat, messages: Sequence[Message], variables: Mapping[str, Any], whole: str
) -> tuple[Span, ...]:
    """Where a completion stands whose prompt is written differently once it is answered: its words and end tokens.

    Templates do so that put the system's words, or tools, into the last turn of the user. What prompt and whole begin
    with alike then ends before the question, which would carry loss.

    Raises:
        RowError: it cannot be told from the prompt.
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
    """Where the words of a message stand, which are rendered once more between two characters; and its end token.

    This tells turns that are written differently when more follow, as those of templates that forget thoughts.
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
    between = words[:place] + _OPEN + core + _CLOSE + words[place + len(core) :]
    new = [{"type": "text", "text": between}] if isinstance(content, list) else between
    text = template.render([*messages[:number], {**message, "content": new}, *messages[number + 1 :]], variables)
    start, stop = text.find(_OPEN), text.find(_CLOSE) - 1
    if not 0 <= start < stop or text.replace(_OPEN, "").replace(_CLOSE, "") != whole:
        raise refused
    before = template.render(messages[:number], variables, ask=True) if number else ""
    if thoughts and says(whole[common_length(before, whole) : start], thoughts):
        raise refused  # they are of this turn, and would be left out
    ends = special_tokens(template.tokenizer)
    end = re.compile(rf"\s*(?:{ends.pattern})").match(whole, stop) if ends else None
    return start, end.end() if end else stop


def _not_found(number: int, message: Message) -> RowError:
    return RowError(
        "turn_not_found",
        f"the chat template writes the {message['role']}'s turn {number} differently when more turns follow, so its "
        "tokens cannot be told; mark the assistant's words by {% generation %} in the template",
    )
