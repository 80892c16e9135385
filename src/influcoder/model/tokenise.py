"""Examples as token ids with their loss, and the checks that every row goes through on its way to a model.

Tokenisation follows TRL's: prompt and prompt + completion are both rendered, and the completion starts after their
longest common run of tokens. A raw text gets the special tokens of the tokenizer, and an end token where it has none;
a chat has those that its template writes.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from influcoder.data.examples import Example
from influcoder.data.messages import Chat, RowError
from influcoder.data.token_ids import TokenIds
from influcoder.data.values import common_length
from influcoder.model.batches import Tokens
from influcoder.model.rendering import Renderer, Text
from influcoder.model.template import ChatTemplate
from influcoder.model.turns import Span
from influcoder.model.words import excerpt, says, without_thoughts

logger = logging.getLogger("influcoder")

HALF = "\ufffd"
"""what a tokenizer decodes part of a character to: the loss may begin within a character"""


class Tokeniser:
    """Turns examples into the token ids that a model is given.

    Args:
        tokenizer: the model's.
        name: of the decoder, for messages.
        rows: of its embedding table; a token beyond it cannot be read.
        max_length: tokens of an example that are kept.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, name: str, rows: int, max_length: int) -> None:
        self.tokenizer = tokenizer
        self.name = name
        self.rows = rows
        self.max_length = max_length
        self._renderer = Renderer(ChatTemplate(tokenizer, name))
        self._start = self._start_tokens()
        self._warned: set[str] = set()
        self.left_out = Counter[str]()
        """how many of the prepared rows had each of the fields that the chat template does not write"""

    def tokens(self, examples: Sequence[Example]) -> list[Tokens]:
        """Token ids of each example and where its loss is, cut to `max_length`.

        Raises:
            RowError: an example cannot be read.
        """
        by_place: dict[int, Tokens] = {}
        texts: dict[int, Text] = {}
        for place, example in enumerate(examples):
            if isinstance(example.given, TokenIds):
                by_place[place] = self._of_ids(example.given)
            else:
                texts[place] = self.text(example)
        for templated in (False, True):
            places = [place for place, text in texts.items() if text.templated is templated]
            if not places:
                continue
            # A rendered template holds its own special tokens; raw text gets the tokenizer's.
            prompts = self._encoded([texts[place].prompt for place in places], special=not templated)
            wholes = self._encoded([texts[place].whole for place in places], special=not templated)
            for row, place in enumerate(places):
                by_place[place] = self._of_text(texts[place], prompts["input_ids"][row], wholes, row)
        tokens = [by_place[place] for place in range(len(examples))]
        self._warn(examples, tokens)
        return tokens

    def prepared(self, example: Example) -> Example:
        """The example, with its texts decoded where it has token ids alone.

        Raises:
            RowError: it cannot be read.
        """
        (tokens,) = self.tokens([example])
        self.left_out.update(tokens.lost)
        if not isinstance(example.given, TokenIds) or example.completion:
            return example
        ids, has_loss = np.array(example.given.ids), np.array(example.given.weights) > 0
        last = np.flatnonzero(has_loss)[-1]
        prompt = self.tokenizer.decode(ids[:last][~has_loss[:last]].tolist())
        completion = self.tokenizer.decode(ids[has_loss].tolist())
        if not completion.strip():
            raise RowError("empty_completion", f"the {tokens.targets} tokens with loss are no text")
        return replace(example, prompt=prompt, completion=completion)

    def prompt(self, example: Example) -> list[int]:
        """The token ids of the prompt: all before the completion."""
        if isinstance(example.given, TokenIds):
            first = next(place for place, weight in enumerate(example.given.weights) if weight > 0)
            return list(example.given.ids[:first])
        templated = self._has_template(example)
        text = self._renderer.prompt(example) if templated else self.text(example).prompt
        ids = self._encoded([text], special=not templated)["input_ids"][0]
        self._refuse_beyond(ids)
        return list(ids)

    def text(self, example: Example) -> Text:
        """The text of an example, as the model reads it.

        Raises:
            RowError: the chat template refuses it, or leaves out the completion.
        """
        if self._has_template(example):
            return self._renderer.text(example)
        prompt = example.prompt
        if example.turns or isinstance(example.given, Chat):
            # Plain instruction tuning without a template: the words themselves, a blank line between.
            prompt += "\n\n" if prompt else ""
        return Text(prompt, prompt + example.completion, False, (example.completion,))

    def _has_template(self, example: Example) -> bool:
        is_chat = bool(example.turns) or isinstance(example.given, Chat)
        return is_chat and bool(self.tokenizer.chat_template)

    def _of_text(self, text: Text, prompt: list[int], wholes: Any, row: int) -> Tokens:
        ids, end = list(wholes["input_ids"][row]), self.tokenizer.eos_token_id
        if not text.templated:
            prompt, ids = self._started_once(list(prompt)), self._started_once(ids)
            if prompt and prompt[-1] == end and ids[: len(prompt)] != prompt:
                prompt = prompt[:-1]  # a tokenizer that ends every text with its end token
        start = common_length(prompt, ids)
        if not text.templated:
            if ids[-2:] == [end, end] and len(ids) - 2 >= start:
                ids = ids[:-1]  # the text has its end token, and the tokenizer adds one
            if end not in ids[max(start, len(ids) - 2) :]:
                ids = [*ids, end]
        weights = None if text.spans is None else self._weights(text.spans, wholes, row, start if text.prompt else 0)
        self._refuse_beyond(ids)
        self._refuse_other_words(text, ids, start, weights)
        return self._cut(ids, start, weights, moved=start < len(prompt), lost=text.lost)

    def _of_ids(self, given: TokenIds) -> Tokens:
        self._refuse_beyond(given.ids)
        pad = self.tokenizer.pad_token_id
        if pad is not None and given.ids[-2:] == (pad, pad) and all(given.weights[-2:]):
            raise RowError(
                "padded",
                f"it ends in padding, tokens {self.tokenizer.pad_token!r}, which would carry loss; give "
                "attention_mask, or labels of -100",
            )
        weights = np.asarray(given.weights, np.float32)
        return self._cut(list(given.ids), 0, weights)

    def _weights(self, spans: Sequence[Span], wholes: Any, row: int, start: int) -> NDArray[np.float32]:
        """How much each token counts, from the characters that do; the same places as in transformers' masks."""
        if not self.tokenizer.is_fast:
            raise RowError(
                "slow_tokenizer", "the tokenizer does not say where its tokens stand, which loss by turn needs"
            )
        weights = np.zeros(len(wholes["input_ids"][row]), np.float32)
        for begin, stop, weight in spans:
            places = (wholes.char_to_token(row, place) for place in range(begin, stop))
            first = next((place for place in places if place is not None), None)
            last = wholes.char_to_token(row, stop - 1)
            if first is not None:
                weights[first : len(weights) if last is None else last + 1] = weight
        weights[:start] = 0
        if not weights[1:].any():
            raise RowError("no_loss", "no token carries loss: the chat template marks none of the turns that count")
        return weights

    def _cut(
        self,
        ids: list[int],
        start: int,
        weights: NDArray[np.float32] | None,
        *,
        moved: bool = False,
        lost: tuple[str, ...] = (),
    ) -> Tokens:
        if weights is not None:
            start = int(np.flatnonzero(weights)[0])
            weights = None if (weights[start:] == weights[start]).all() else weights
        # One token of the prompt always stays: it predicts the first of the completion.
        kept = min(start, max(self.max_length - (len(ids) - start), 1))
        window = slice(start - kept, start - kept + self.max_length)
        return Tokens(
            np.asarray(ids[window], np.int64),
            kept,
            prompt_cut=kept < start,
            completion_cut=len(ids[window]) - kept < len(ids) - start,
            boundary_moved=moved,
            weights=None if weights is None else weights[window],
            lost=lost,
        )

    def _refuse_beyond(self, ids: Sequence[int]) -> None:
        if ids and max(ids) >= self.rows:
            known = self.tokenizer.convert_ids_to_tokens(max(ids)) if max(ids) < len(self.tokenizer) else None
            token = "a token" if known is None else f"token {known!r}"
            raise RowError(
                "beyond_the_table",
                f"it holds {token} of id {max(ids)}, and {self.name} has an embedding of {self.rows} rows",
            )

    def _refuse_other_words(self, text: Text, ids: list[int], start: int, weights: NDArray[np.float32] | None) -> None:
        """The tokens that carry loss must read as the words that the row has the model say."""
        if weights is None:
            decoded, after = self.tokenizer.decode(ids), len(self.tokenizer.decode(ids[:start]).rstrip(HALF))
        else:
            decoded, after = self.tokenizer.decode(self._with_whole_characters(ids, weights)), -1
        for words in text.with_loss:
            if says(decoded, words, after) or (weights is not None and says(decoded, without_thoughts(words))):
                continue
            words_ids = self._encoded([words], special=False)["input_ids"][0]
            round_trip = self.tokenizer.decode(words_ids, skip_special_tokens=True)
            if not round_trip.strip() or not says(decoded, round_trip, after):
                raise RowError(
                    "other_words",
                    f"the tokens with loss read {excerpt(decoded[max(after, 0) :])}, expected {excerpt(words)}",
                )

    def _with_whole_characters(self, ids: list[int], weights: NDArray[np.float32]) -> list[int]:
        """The tokens with loss, and the other parts of characters that they begin or end within.

        A mask of characters names one of the tokens that a character is cut into, in transformers as well.
        """
        chosen = weights != 0
        for edge in np.flatnonzero(chosen[1:] != chosen[:-1]):
            place, step = (edge, -1) if chosen[edge + 1] else (edge + 1, 1)
            while 0 <= place < len(ids) and not chosen[place] and HALF in self.tokenizer.decode([ids[place]]):
                chosen[place] = True
                place += step
        return [ids[place] for place in np.flatnonzero(chosen)]

    def _encoded(self, texts: list[str], *, special: bool) -> Any:
        return self.tokenizer(texts, add_special_tokens=special, verbose=False)

    def _start_tokens(self) -> list[int]:
        """The special tokens that the tokenizer puts before a text."""
        marked, plain = (self._encoded(["a"], special=special)["input_ids"][0] for special in (True, False))
        added = len(marked) - len(plain)
        return list(marked[:added]) if marked[added:] == plain else []

    def _started_once(self, ids: list[int]) -> list[int]:
        """The ids with one set of start tokens, where the text has them itself and the tokenizer adds them again."""
        size = len(self._start)
        return ids[size:] if size and ids[:size] == ids[size : 2 * size] == self._start else ids

    def _warn(self, examples: Sequence[Example], tokens: Sequence[Tokens]) -> None:
        if "header" not in self._warned and any(self._has_template(example) for example in examples):
            self._warned.add("header")
            if header := self._renderer.template.header_with_loss:
                message = (
                    "%s: the chat template writes %r before an answer, and not where one is asked for "
                    "(add_generation_prompt), so it carries loss."
                )
                logger.warning(message, self.name, header)
        moved = sum(text.boundary_moved for text in tokens)
        if moved and "moved" not in self._warned:
            self._warned.add("moved")
            message = "%d of %d prompts end in other tokens when the completion follows; loss starts where they part."
            logger.warning(message, moved, len(tokens))
        for example, text in zip(examples, tokens, strict=True):
            for lost in set(text.lost) - self._warned:
                self._warned.add(lost)
                message = "%s: the chat template leaves out: %s (the first such row: %r)."
                logger.warning(message, self.name, lost, example.id)
