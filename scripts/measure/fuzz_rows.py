"""Rows and chat templates at random: is each read right, or refused with a message, and never anything else?

    python scripts/measure/fuzz_rows.py --examples 5000

Half of them are chats that can be read, with templates that are right: put together from parts, so that the text they
must give is known. No check may refuse them, and text and loss must be the expected ones. The other half is anything:
columns of known names with values of every type, templates that drop, cut and fail. They may be refused, by the
errors of `influcoder.errors` alone, and what is read must hold together.
"""

import argparse
import json
import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from fuzz_strategies import LOSSES, Style, any_rows, any_templates, right_chats, styles
from influcoder.data.columns import from_columns, to_columns
from influcoder.data.examples import Example
from influcoder.data.messages import RowError
from influcoder.data.parts import Columns
from influcoder.data.reading import read_examples
from influcoder.errors import InflucoderError
from influcoder.model.tokenise import Tokeniser

SPECIAL = ["<pad>", "<bos>", "<eos>", "<turn>", "</turn>"]
VOCABULARY = 400
CUTTING = ("bytes", "bytes, lower case", "bytes, started", "sentence pieces")
"""the ways in which the tokenizers cut a text; a right text is told exactly from the first and third"""


def tokenizer(cutting: str) -> PreTrainedTokenizerFast:
    inner = Tokenizer(models.BPE(byte_fallback=cutting == "sentence pieces"))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if cutting == "sentence pieces":
        inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        inner.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        alphabet = list("abcdefghijklmnopqrstuvwxyz▁")
    else:
        inner.normalizer = normalizers.Lowercase() if cutting.endswith("lower case") else None
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
    bytes_ = [f"<0x{n:02X}>" for n in range(256)] if cutting == "sentence pieces" else []
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[*SPECIAL, *bytes_], initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(["user: what is two plus two? assistant: four it is. system: be brief."], trainer)
    if cutting == "bytes, started":
        inner.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    found = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>")
    found.add_special_tokens({"additional_special_tokens": ["<turn>", "</turn>"]})
    return found


class Fuzz:
    """What the examples came to, by outcome."""

    def __init__(self) -> None:
        self.tokenizers = {cutting: tokenizer(cutting) for cutting in CUTTING}
        self.outcomes = Counter[str]()

    def reader(self, cutting: str, template: Any, max_length: int = 100_000) -> Tokeniser:
        held = self.tokenizers[cutting]
        held.chat_template = template
        return Tokeniser(held, name="random", rows=len(held), max_length=max_length)

    def right(self, cutting: str, style: Style, chat: list[dict[str, Any]], loss: str, row: dict[str, Any]) -> None:
        """A chat that can be read, of a template that is right: never refused, and text and loss as expected."""
        reader = self.reader(cutting, style.jinja())
        examples = read_examples([row], columns=Columns(loss=loss, pairs="chosen"), prepare=reader.prepared)  # type: ignore[arg-type]
        hold_together(reader, examples)
        (tokens,) = reader.tokens(examples)
        if cutting in ("bytes", "bytes, started"):
            whole = reader.tokenizer.decode(tokens.ids)
            assert whole == style.text(chat), (whole, style.text(chat))
            with_loss = reader.tokenizer.decode(tokens.ids[tokens.places])
            every = loss == "assistant" and "prompt" not in row
            answers = style.answers(chat)[0 if every else -1 :]
            assert all(one in with_loss for one in answers), (answers, with_loss)
            if loss != "all" and style.delimited:
                assert "".join(with_loss.split()) == "".join("".join(answers).split()), (answers, with_loss)
        self.outcomes["right, read"] += 1

    def anything(self, cutting: str, template: str, row: dict[str, Any], loss: str, max_length: int) -> None:
        """Any row and template: refused in words, or read so that it holds together."""
        reader = self.reader(cutting, template, max_length)
        try:
            examples = read_examples([row], columns=Columns(loss=loss, pairs="both"), prepare=reader.prepared)  # type: ignore[arg-type]
        except InflucoderError as error:
            cause = error.__cause__
            self.outcomes[f"any, refused: {cause.code if isinstance(cause, RowError) else type(error).__name__}"] += 1
            return
        hold_together(reader, examples)
        self.outcomes["any, read"] += 1


def hold_together(reader: Tokeniser, examples: list[Example]) -> None:
    """What is read of examples is the same alone, together and once more, and within its bounds."""
    together = reader.tokens(examples)
    for example, tokens in zip(examples, together, strict=True):
        assert example.completion.strip()
        assert 2 <= len(tokens.ids) <= reader.max_length
        assert 0 <= tokens.ids.min() <= tokens.ids.max() < reader.rows
        assert 0 <= tokens.start < len(tokens.ids)
        assert tokens.targets == len(tokens.places) == len(tokens.shares) > 0
        assert tokens.places[0] >= max(tokens.start, 1)
        assert np.isfinite(tokens.shares).all()
        assert (tokens.shares > 0).all()
        assert abs(float(tokens.shares.sum()) - 1) < 1e-4
        assert tokens.weights is None or len(tokens.weights) == len(tokens.ids)
        columns = {name: values[0] for name, values in to_columns([example]).items()}
        stored = from_columns({"id": example.id, **columns})
        assert stored == example
        for other in reader.tokens([example] + [stored] * (stored.metadata == example.metadata)):
            assert np.array_equal(other.ids, tokens.ids)
            assert np.array_equal(other.shares, tokens.shares)
            assert other.lost == tokens.lost


def run(examples: int, seed: int = 0) -> Counter[str]:
    """So many examples, half of each kind; a failure is raised with the smallest row and template that have it."""
    fuzz = Fuzz()
    usual = settings(max_examples=examples // 2, deadline=None, database=None, suppress_health_check=list(HealthCheck))

    def each(check: Callable[..., None], *strategies: st.SearchStrategy[Any]) -> None:
        seeded(seed)(usual(given(st.tuples(*strategies))(lambda drawn: check(*drawn))))()

    each(
        lambda cutting, style, loss, drawn: fuzz.right(cutting, style, drawn[0], loss, drawn[1]),
        st.sampled_from(CUTTING),
        styles(),
        LOSSES,
        right_chats(),
    )
    each(
        fuzz.anything,
        st.sampled_from(CUTTING),
        any_templates(),
        any_rows(),
        LOSSES,
        st.integers(2, 40) | st.just(100_000),
    )
    return fuzz.outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    began = time.process_time()
    outcomes = run(arguments.examples, arguments.seed)
    print(json.dumps({"seconds": round(time.process_time() - began), **dict(outcomes.most_common())}, indent=1))


if __name__ == "__main__":
    main()
