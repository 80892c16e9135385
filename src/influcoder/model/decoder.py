"""A causal language model, frozen, with the tokenizer that decides where its loss lies.

The loss of an example is the mean cross-entropy over its completion tokens, the end token included;
prompt tokens carry none (`influcoder.model.tokenise`).
"""

import copy
import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from influcoder.data.examples import Example
from influcoder.data.messages import RowError
from influcoder.errors import ConfigError, DataError, ModelError, first_line, some_of
from influcoder.model import remote_code
from influcoder.model.adapter_folder import base_and_adapter
from influcoder.model.adapters import Adapter, MergedAdapter, with_adapter
from influcoder.model.answers import greedy_tokens
from influcoder.model.batches import Tokens
from influcoder.model.causal_model import has_plain_head, is_causal, model_hash, table_rows
from influcoder.model.template import template_date
from influcoder.model.tokenise import Tokeniser
from influcoder.model.tokenizer_loading import check_pair, load_tokenizer, tokenizer_hash
from influcoder.provenance import DecoderRecord

logger = logging.getLogger("influcoder")


class Decoder:
    """A frozen decoder: it reads examples as tokens and answers prompts.

    Make one with `Decoder.load(path_or_hub_id)`.

    Raises:
        ModelError: the tokenizer has no end token or is another model's, or tokens see what follows them.
        ConfigError: `max_length` leaves no room for a token and the one it predicts.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        max_length: int = 1024,
        merged: MergedAdapter | None = None,
        tokenizer_differs: str | None = None,
        load_again: "Callable[[], Decoder] | None" = None,
    ) -> None:
        if max_length < 2:
            raise ConfigError(f"max_length is {max_length}, expected at least 2: a token and the one it predicts.")
        limit = getattr(model.config, "max_position_embeddings", None) or max_length
        rows = table_rows(model, name)
        check_pair(tokenizer, rows, name)
        self.model = model.eval().requires_grad_(False)
        if not is_causal(self.model, name):
            raise ModelError(
                f"{name}: its predictions depend on the tokens that follow, so it is no causal language model "
                "(an encoder such as BERT?). Give a decoder."
            )
        self.tokenizer = tokenizer
        self.name = name
        self.max_length = min(max_length, limit)
        self.tokeniser = Tokeniser(tokenizer, name=name, rows=rows, max_length=self.max_length)
        self._fingerprint: DecoderRecord | None = None
        self._shortened_to: int | None = None
        self.told_apart: dict[tuple[Any, ...], bool] = {}  # by layers, what `tells_apart` found
        self.merged = merged
        self.tokenizer_differs = tokenizer_differs
        self._load_again = load_again

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        adapter: str | Path | None = None,
        revision: str | None = None,
        dtype: str = "auto",
        max_length: int = 1024,
        device: str | None = None,
        trust_remote_code: bool = False,
    ) -> "Decoder":
        """Load a decoder from a folder or hub id, with a LoRA adapter merged in if one is given.

        Args:
            path: a Hugging Face folder or hub id.
            adapter: a PEFT LoRA adapter of this decoder.
            dtype: "auto" keeps float32 on a CPU and the stored type elsewhere; or "fp32", "bf16", "fp16".
            max_length: tokens of an example that are read; never more than the model has positions for.
            device: "cuda", "cpu" ...; the first accelerator when omitted.
            trust_remote_code: run Python code that the folder holds (auto_map).

        Raises:
            ModelError: not found, not a causal LM, or the adapter does not fit.
        """
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if not sys.stderr.isatty():
            disable_progress_bar()
        torch_dtype = _dtype(dtype, device)
        trust_remote_code = trust_remote_code or remote_code.allowed()
        path, folder = base_and_adapter(path, adapter, revision=revision)
        if folder is not None and adapter is None:
            revision = folder.config.get("revision")  # of the base; the one given is of the adapter
        source: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
        try:
            tokenizer, differs = load_tokenizer(path, folder, **source)
            model, loading_info = AutoModelForCausalLM.from_pretrained(
                path, dtype=torch_dtype, output_loading_info=True, **source
            )
        except ModelError:
            raise
        except Exception as error:  # the libraries below raise errors of every class on damaged files
            if refusal := remote_code.refused(path, error):
                raise ModelError(refusal) from error
            whose = remedy = ""
            if folder is not None and adapter is None:
                whose = f" (the base that the adapter {folder.path} names)"
                remedy = f" Or name another: --decoder BASE --adapter {folder.path}."
            raise ModelError(
                f"{path}{whose}: cannot be loaded as a causal language model: {first_line(error)} Expected a Hugging "
                f"Face folder with config.json, safetensors weights and a tokenizer, or a hub id.{remedy}"
            ) from error
        if missing := loading_info["missing_keys"]:
            raise ModelError(
                f"{path}: the weights lack {some_of(missing)}, which would stay random. Expected a complete causal "
                "language model, with the config.json that it was saved with."
            )
        if warning := remote_code.left_alone(model):
            logger.warning("%s: %s", path, warning)
        model, merged, name = model.to(device), None, str(path)
        if folder is not None:
            model, merged = with_adapter(model, folder)
            name += f" + {folder.path}"
        load_again = partial(
            cls.load,
            _absolute(path),
            adapter=_absolute(None if folder is None else folder.path),
            dtype=dtype,
            max_length=max_length,
            device=device,
            **source,
        )
        return cls(
            model,
            tokenizer,
            name=name,
            max_length=max_length,
            merged=merged,
            tokenizer_differs=differs,
            load_again=load_again,
        )

    @property
    def load_again(self) -> "Callable[[], Decoder]":
        """A function that loads the same decoder in another process.

        Raises:
            ConfigError: it was made in memory.
        """
        if self._load_again is None:
            remedy = "Save it and load it from there with Decoder.load."
            raise ConfigError(f"{self.name} was made in memory, where no worker finds it. {remedy}")
        return self._load_again

    def shortened(self, tokens: int) -> "Decoder":
        """The same decoder, reading at most so many tokens of a text (`Tokens.shortened`).

        Raises:
            ConfigError: fewer than two.
        """
        if tokens < 2:
            raise ConfigError(f"a text is shortened to {tokens} tokens, expected at least 2.")
        shortened = copy.copy(self)
        shortened._shortened_to = tokens
        return shortened

    def save(self, folder: Path) -> None:
        """Write it as a Hugging Face folder: `Decoder.load` and every other reader open it."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def reading_with(self, tokenizer: PreTrainedTokenizerBase) -> "Decoder":
        """The same decoder with another tokenizer."""
        changed = copy.copy(self)
        changed.tokeniser = Tokeniser(tokenizer, name=self.name, rows=self.tokeniser.rows, max_length=self.max_length)
        changed.tokenizer, changed._fingerprint = tokenizer, None
        return changed

    @property
    def adapter(self) -> Adapter:
        """A, B and scale of a LoRA adapter's layers by name; empty without one."""
        return {} if self.merged is None else self.merged.layers

    @cached_property
    def has_plain_head(self) -> bool:
        """Whether the logits are the head's product with the last hidden state, and nothing after it."""
        return has_plain_head(self.model)

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.get_input_embeddings().weight.device
        return device

    def tokenise(self, examples: Sequence[Example]) -> list[Tokens]:
        """Token ids and completion start of each example, cut to `max_length`.

        A text that is too long loses the left end of its prompt; its completion is cut, at its end, only
        when it alone is too long. Both are flagged.

        Raises:
            DataError: an example cannot be read: its chat template refuses it or leaves out its completion, or it
                holds tokens that the model does not have. The message names it.
        """
        try:
            tokens = self.tokeniser.tokens(examples)
        except RowError:
            for example in examples:
                self._refuse_unreadable(example)
            raise
        return tokens if self._shortened_to is None else [text.shortened(self._shortened_to) for text in tokens]

    def prepare(self, example: Example) -> Example:
        """An example that this decoder can read, for `influcoder.data.reading`: rows of token ids get their texts.

        Raises:
            RowError: it cannot be read.
        """
        return self.tokeniser.prepared(example)

    def answer(self, example: Example, max_new_tokens: int = 24) -> str:
        """The model's own greedy completion of an example's prompt, at most `max_length` - 1 tokens long.

        An empty prompt is continued from the end token, which is what precedes a text.
        """
        return self.answers([example], max_new_tokens)[0]

    def answers(self, examples: Sequence[Example], max_new_tokens: int = 24) -> list[str]:
        """The same for many examples, several at a time."""
        max_new_tokens = min(max_new_tokens, self.max_length - 1)
        end = self.tokenizer.eos_token_id
        for example in examples:
            self._refuse_unreadable(example)
        prompts = [self.tokeniser.prompt(example) or [end] for example in examples]
        room = self.max_length - max_new_tokens
        answers = greedy_tokens(self.model, [prompt[-room:] for prompt in prompts], max_new_tokens, end)
        return [str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip() for ids in answers]

    def _refuse_unreadable(self, example: Example) -> None:
        try:
            self.tokeniser.tokens([example])
        except RowError as error:
            raise DataError(f"example {example.id!r}: {error.detail}. Correct it, or leave it out.") from error

    @property
    def fingerprint(self) -> DecoderRecord:
        """All that changes this decoder's numbers: hashes of weights, config, tokenizer and template, and length."""
        if self._fingerprint is None:
            self._fingerprint = DecoderRecord(
                decoder=model_hash(self.model),
                decoder_parameters=sum(p.numel() for p in self.model.parameters()),
                revision=getattr(self.model.config, "_commit_hash", None),
                tokenizer=tokenizer_hash(self.tokenizer),
                template_date=template_date(self.tokenizer),
                max_length=self.max_length,
                tokenizer_differs=self.tokenizer_differs,
                remote_code=remote_code.code_hash(self.model),
            )
        return self._fingerprint


def _absolute(path: str | Path | None) -> Any:
    """A folder's absolute path, for a process that runs elsewhere; a hub id as it is."""
    return os.path.abspath(path) if path is not None and os.path.isdir(path) else path


def _dtype(name: str, device: str) -> torch.dtype | str:
    known = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if name == "auto":
        return torch.float32 if device == "cpu" else "auto"
    if name not in known:
        raise ModelError(f"dtype {name!r} is unknown; expected auto, {', '.join(known)}.")
    return known[name]
