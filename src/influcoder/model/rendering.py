"""The text of a chat: rendered by its template, and compared with the words of the row.

A template that ignores a part of its input raises nothing: it renders less. So the words of every message are looked
for in the text. A chat whose completion is not all there is refused; anything else that is missing is named.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from influcoder.data.examples import Example
from influcoder.data.messages import REASONING, SWITCHES, Chat, Message, RowError, reasoning_of, words_of
from influcoder.data.values import common_length
from influcoder.model.forms import forms_of
from influcoder.model.template import ChatTemplate, special_tokens
from influcoder.model.turns import Span, spans_of, spans_of_answer, stands_before
from influcoder.model.words import called_words, excerpt, pieces_of, says, without_thoughts

_CHECKED_ELSEWHERE = frozenset(
    {"role", "content", "tool_calls", "function_call", "tool_call_id", "weight", *REASONING, *SWITCHES}
)
"""keys of a message that are looked for by other means than their name, or say nothing to a model"""


@dataclass(frozen=True, slots=True)
class Text:
    """A text to tokenise, and what of it carries loss.

    Attributes:
        prompt: what comes before the completion, as it stands when the completion is still to come.
        whole: prompt and completion.
        templated: whether a template made it, which has written the special tokens.
        with_loss: words that the tokens with loss must hold.
        spans: the characters with loss; all that follow the prompt where it is None.
        lost: fields of the row that are not in the text.
    """

    prompt: str
    whole: str
    templated: bool
    with_loss: tuple[str, ...]
    spans: tuple[Span, ...] | None = None
    lost: tuple[str, ...] = ()


class Renderer:
    """Renders chats.

    Args:
        template: of the decoder.
    """

    def __init__(self, template: ChatTemplate) -> None:
        self.template = template
        self._special = special_tokens(template.tokenizer)

    def text(self, example: Example) -> Text:
        """The text of a chat, from the form of its messages of which the template leaves out least.

        Raises:
            RowError: the template refuses it, or does not render the completion; it is rendered already.
        """
        chat = self._chat(example)
        variables = self.template.variables(chat.variables, example.metadata)
        self._refuse_rendered(chat)
        readings: list[tuple[int, Text]] = []
        refused: list[RowError] = []
        for messages in forms_of(chat.messages, self.template):
            try:
                readings.append(self._rendered(chat, messages, variables))
            except RowError as error:
                refused.append(error)
            else:
                if not readings[-1][0]:
                    break
        if not readings:
            raise next((error for error in refused if error.code != "template_refused"), refused[0])
        return min(readings, key=lambda reading: reading[0])[1]

    def prompt(self, example: Example) -> str:
        """The text of a chat up to where the assistant begins to speak."""
        chat = self._chat(example)
        answers = [
            n for n, message in enumerate(chat.messages) if message["role"] == "assistant" and chat.carries_loss(n)
        ]
        asked = chat.messages[: chat.prompt or (answers[-1] if answers else 0)]
        variables = self.template.variables(chat.variables, example.metadata)
        refused: list[RowError] = []
        for messages in forms_of(asked, self.template) if asked else ():
            try:
                return self.template.render(messages, variables, ask=True)
            except RowError as error:
                refused.append(error)
        if refused:
            raise refused[0]
        return ""

    def _chat(self, example: Example) -> Chat:
        """The chat, with an older `function_call` as the tool call that the template reads, and each end token once."""
        chat = example.given
        if not isinstance(chat, Chat):
            turns = [*example.turns, ("assistant", example.completion)]
            chat = Chat(tuple({"role": role, "content": content} for role, content in turns), len(example.turns))
        names = self.template.source(chat.variables).names
        return replace(chat, messages=tuple(self._message_as_read(message, names) for message in chat.messages))

    def _message_as_read(self, message: Message, names: frozenset[str]) -> Message:
        words, end = message.get("content"), self.template.end
        if message["role"] != "assistant":
            return message
        if "function_call" in message and "function_call" not in names and "tool_calls" in names:
            call = {"type": "function", "function": message["function_call"]}
            message = {**message, "tool_calls": [*message.get("tool_calls", ()), call]}
            message = {key: value for key, value in message.items() if key != "function_call"}
        if end and isinstance(words, str) and words.rstrip().endswith(end):
            kept = words.rstrip().removesuffix(end)
            message = {**message, "content": kept} if kept.strip() else message
        return message

    def _rendered(self, chat: Chat, messages: list[Message], variables: Mapping[str, Any]) -> tuple[int, Text]:
        """(number of turns before the completion that are left out, the text)."""
        whole = self.template.render(messages, variables)
        prompt = self.template.render(messages[: chat.prompt], variables, ask=True) if chat.prompt else ""
        shown, after = self._without_special(whole), common_length(prompt, whole)
        spans = None
        if chat.weights:
            spans = spans_of(self.template, chat, messages, variables, whole)
        elif prompt and not stands_before(chat.messages[chat.prompt - 1], whole, after):
            spans = spans_of_answer(self.template, chat, messages, variables, whole)
        if spans is not None:
            text_with_loss = self._without_special(" ".join(whole[start:stop] for start, stop, _ in spans))
            after = -1
        else:
            text_with_loss = shown
        words_with_loss: list[str] = []
        lost: list[str] = []
        asked = missing = 0
        for number, message in enumerate(chat.messages):
            pieces = pieces_of(message)
            if chat.carries_loss(number):
                kept = self._kept(message, text_with_loss, after, whole)
                words_with_loss += kept
                lost += ["thoughts in the completion"] if kept[: len(pieces)] != pieces else []
                continue
            counts = message["role"] not in ("system", "developer") and bool(pieces)
            asked += counts
            if not all(self._says(shown, piece) or self._says(shown, without_thoughts(piece)) for piece in pieces):
                missing += counts
                lost.append(f"content of the {message['role']}'s turn")
        if asked and asked == missing:
            raise RowError(
                "prompt_not_rendered",
                f"the chat template renders nothing of the turns before the completion; it makes {excerpt(whole)} of "
                "the chat",
            )
        lost += self._lost_fields(chat, variables, shown)
        return missing, Text(prompt, whole, True, tuple(words_with_loss), spans, tuple(dict.fromkeys(lost)))

    def _kept(self, message: Message, text_with_loss: str, after: int, whole: str) -> list[str]:
        """The words of a message with loss that are in the text: all, or those that follow its thoughts.

        Raises:
            RowError: some of them are missing.
        """
        names, values = called_words(message)
        pieces = pieces_of(message)
        thoughtless = [without_thoughts(piece) for piece in pieces]
        for texts in [pieces, thoughtless] if any(words.strip() for words in thoughtless) else [pieces]:
            if all(self._says(text_with_loss, words, after) for words in (*texts, *names, *values)):
                return [*texts, *names]
        searched = (*pieces, *names, *values)
        lost = next((words for words in searched if not self._says(text_with_loss, words, after)), "")
        kind = "tool call" if lost in names else "completion" if lost in pieces else "argument of a tool call"
        raise RowError(
            "completion_not_rendered",
            f"the {kind} {excerpt(lost)} is not in what the chat template renders for it, "
            f"{excerpt(whole[after:] if after >= 0 else text_with_loss)}",
        )

    def _lost_fields(self, chat: Chat, variables: Mapping[str, Any], shown: str) -> Iterator[str]:
        """Fields that the template does not name and the text does not contain."""
        names = self.template.source(variables).names
        yield from (name for name in chat.variables if name not in names)
        for message in chat.messages:
            whose = f"of the {message['role']}'s turn"
            calls, values = called_words(message)
            if calls and not (
                {"tool_calls", "function_call"} & names and any(self._says(shown, name) for name in calls)
            ):
                yield f"tool_calls {whose}"
            elif not all(self._says(shown, value) for value in values):
                yield f"arguments of a tool call {whose}"
            if (thoughts := reasoning_of(message)) and not self._says(shown, thoughts):
                yield f"reasoning {whose}"
            for key, value in message.items():
                if key not in _CHECKED_ELSEWHERE and key not in names and not self._says(shown, str(value)):
                    yield f"{key} {whose}"

    def _refuse_rendered(self, chat: Chat) -> None:
        for number, message in enumerate(chat.messages):
            words = words_of(message).strip()
            token = next((opener for opener in self.template.openers if words.startswith(opener)), None)
            opener, closer = self.template.around_question
            if token is None and opener and words.endswith(closer) and opener in words[: -len(closer)]:
                token = opener
            if token is not None:
                raise RowError(
                    "rendered_already",
                    f"message {number} holds {token!r}, which the chat template writes itself, so its text is already "
                    "rendered and would be rendered twice; give it as text, or as prompt and completion in text",
                )

    def _says(self, shown: str, words: str, after: int = -1) -> bool:
        return says(shown, self._without_special(words), after)

    def _without_special(self, text: str) -> str:
        """The text with spaces in place of special tokens, which are not a row's words."""
        return self._special.sub(lambda match: " " * len(match[0]), text)
