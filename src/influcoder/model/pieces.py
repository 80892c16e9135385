"""The text of each token that carries loss: pieces that together are the completion."""

from collections.abc import Iterator

from transformers import PreTrainedTokenizerBase

from influcoder.model.batches import Tokens
from influcoder.model.tokenise import HALF

MOST_BEFORE = 16
"""tokens before a piece that it is decoded with, at most"""


def pieces(tokenizer: PreTrainedTokenizerBase, tokens: Tokens, completion: str) -> list[tuple[str, list[int]]]:
    """The pieces of a completion, each with its tokens: their places among those that carry loss.

    Every token with loss is in one piece, and tokens that hold parts of one character share a piece. The texts of the
    pieces add up to `completion`; what a chat template or the tokenizer writes after it, such as the end token, is a
    last piece without text. If the loss is on other text than the completion (several turns, a completion that was
    cut), the pieces have that text.

    >>> from influcoder.demo.world import assets
    >>> from influcoder.data.examples import Example
    >>> from influcoder.model.decoder import Decoder
    >>> decoder = Decoder.load(assets() / "decoder", device="cpu")
    >>> (tokens,) = decoder.tokenise([Example("a", "Ada was born in", " Genoa.")])
    >>> parts = pieces(decoder.tokenizer, tokens, " Genoa.")
    >>> "".join(text for text, _ in parts), parts[-1][0]
    (' Genoa.', '')
    """
    read = list(_read(tokenizer, tokens))
    text = "".join(piece for piece, _ in read)
    for words in (completion, completion.strip()):
        if words and (start := text.find(words)) >= 0:
            return _within(read, start, start + len(words))
    return read


def _read(tokenizer: PreTrainedTokenizerBase, tokens: Tokens) -> Iterator[tuple[str, list[int]]]:
    """The text of each token with loss, parts of a character put together.

    The first token of a text without a prompt is not predicted and carries no loss; it is decoded all the same.
    """
    ids, places = tokens.ids.tolist(), tokens.places.tolist()
    unpredicted = [0] if tokens.start == 0 and tokens.weights is None else []
    read = unpredicted + places
    first = 0
    for last, place in enumerate(read):
        begin = read[first]
        context, before = _context(tokenizer, ids[:begin])
        text = _decoded(tokenizer, [*context, *ids[begin : place + 1]])[len(before) :]
        if text.endswith(HALF) and read[last + 1 : last + 2] == [place + 1]:
            continue
        yield text, [number - len(unpredicted) for number in range(max(first, len(unpredicted)), last + 1)]
        first = last + 1


def _context(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> tuple[list[int], str]:
    """The last tokens before a piece that read as whole characters, and their text.

    Some tokenizers write a space only between two tokens, and decode consecutive bytes together: a piece needs what
    precedes it, from the beginning of a character on.
    """
    for size in range(1, min(len(ids), MOST_BEFORE) + 1):
        text = _decoded(tokenizer, ids[-size:]).rstrip(HALF)
        if text and HALF not in text:
            return ids[-size:], text
    return [], ""


def _decoded(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))


def _within(read: list[tuple[str, list[int]]], start: int, stop: int) -> list[tuple[str, list[int]]]:
    """The pieces cut to the text from `start` to `stop`; tokens outside stay, with a neighbour or at the end."""
    kept: list[tuple[str, list[int]]] = []
    early: list[int] = []
    late: list[int] = []
    place = 0
    for text, numbers in read:
        inside = text[max(0, start - place) : max(0, stop - place)]
        if inside:
            kept.append((inside, early + numbers))
            early = []
        elif not kept:
            early = early + numbers
        else:
            (late if place >= stop else kept[-1][1]).extend(numbers)
        place += len(text)
    return [*kept, ("", late)] if late else kept
