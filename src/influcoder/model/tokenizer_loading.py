"""The tokenizer of a model: an adapter's before its base's, and one that fits the embedding table.

The tokenizer that an adapter was trained with decides: PEFT's trainers save tokenizer and chat template beside the
adapter, and these can differ from the base model's.
"""

import copy
import hashlib
import logging
import os
import re
from pathlib import Path
from typing import Any

import orjson
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import cached_file

from influcoder.errors import ModelError, first_line, some_of
from influcoder.model.adapter_folder import AdapterFolder
from influcoder.model.template import fixed_template

logger = logging.getLogger("influcoder")

_TEMPLATE = "chat_template.jinja"
_SETTINGS = ("tokenizer_config.json", "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
LEAST_TOKENS, MOST_TOKENS = 0.75, 1.1
"""as shares of the embedding's rows: tables are padded, and tokenizers have a few tokens that are never trained"""
_CONTROL_TOKEN = re.compile(r"<\|[^|<>\s]+\|>|<(?:start|end)_of_turn>|\[/?INST\]")


def load_tokenizer(
    base: str | Path,
    adapter: AdapterFolder | None = None,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedTokenizerBase, str | None]:
    """The tokenizer of a model or of its adapter, and how the adapter's differs from the base's; None if it does not.

    Raises:
        ModelError: the adapter's tokenizer is damaged or lacks its vocabulary.
        Exception: whatever the library below raises on the base's.
    """
    template = None if adapter is None else _file(adapter, _TEMPLATE)
    has_tokenizer = adapter is not None and any(_file(adapter, name) is not None for name in _SETTINGS)
    try:
        base_tokenizer = AutoTokenizer.from_pretrained(base, revision=revision, trust_remote_code=trust_remote_code)
    except Exception:
        if template is None and not has_tokenizer:
            raise
        base_tokenizer = None  # not needed: the adapter's is used
    if adapter is None or (template is None and not has_tokenizer):
        return base_tokenizer, None
    if has_tokenizer:
        tokenizer = _tokenizer_of(adapter, trust_remote_code)
    elif base_tokenizer is None:
        raise ModelError(
            f"{adapter.path}: holds a chat template and no tokenizer, and its base has no tokenizer either. "
            "Put the tokenizer that it was trained with into its folder."
        )
    else:
        tokenizer = copy.deepcopy(base_tokenizer)
        tokenizer.chat_template = Path(str(template)).read_text(encoding="utf-8")
    differs = "" if base_tokenizer is None else "; ".join(differences(tokenizer, base_tokenizer))
    if differs:
        logger.warning("%s: its own tokenizer is used, which differs from its base's: %s.", adapter.path, differs)
    return tokenizer, differs or None


def _tokenizer_of(adapter: AdapterFolder, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            adapter.path, revision=adapter.revision, trust_remote_code=trust_remote_code
        )
        cause = "it has no vocabulary" if _is_empty(tokenizer) else None
    except Exception as error:  # the libraries below raise errors of every class on damaged files
        cause = first_line(error)
    if cause:
        raise ModelError(
            f"{adapter.path}: holds a tokenizer that does not load: {cause}. Expected the whole tokenizer that the "
            "adapter was trained with (tokenizer.json), or none, if that was the base model's."
        )
    return tokenizer


def differences(tokenizer: PreTrainedTokenizerBase, base: PreTrainedTokenizerBase) -> list[str]:
    """In words, how an adapter's tokenizer differs from its base's in what changes token ids.

    Padding, truncation and the padding token are not compared: batches are made without them.
    """
    words = []
    ids, base_ids = tokenizer.get_vocab(), base.get_vocab()
    if ids != base_ids:
        changes = {
            "more": [str(token) for token in ids if token not in base_ids],
            "fewer": [str(token) for token in base_ids if token not in ids],
            "with another id": [str(token) for token in ids if base_ids.get(token, ids[token]) != ids[token]],
        }
        words += [f"{len(tokens)} tokens {how} ({some_of(tokens)})" for how, tokens in changes.items() if tokens]
    elif _rules(tokenizer) != _rules(base):
        words.append("other rules to cut a text into tokens")
    special, base_special = _special(tokenizer), _special(base)
    names = [name for name in special | base_special if special.get(name) != base_special.get(name)]
    words += [f"{name} {special.get(name)!r}, not {base_special.get(name)!r}" for name in names]
    if tokenizer.chat_template != base.chat_template:
        template = "another chat template" if tokenizer.chat_template else "no chat template"
        words.append(template if base.chat_template else "a chat template, which the base has not got")
    return words


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of a tokenizer: vocabulary, rules, special tokens, and chat template with the date that it is given."""
    parts = _rules(tokenizer), _special(tokenizer), fixed_template(tokenizer)
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()


def check_pair(tokenizer: PreTrainedTokenizerBase, rows: int, name: str) -> None:
    """Check that a tokenizer has a vocabulary and fits a table of so many rows; warns of what looks like another's.

    A few tokens beyond the table are accepted, as long as no text uses them (`Tokeniser` refuses those that do).

    Raises:
        ModelError: it has no end token, no vocabulary (as where tokenizer.json is lost), or a far too large one.
    """
    if _is_empty(tokenizer):
        raise ModelError(
            f"{name}: the tokenizer has no vocabulary: tokenizer.json is missing? "
            "Give the tokenizer that the model was saved with."
        )
    if tokenizer.eos_token_id is None:
        raise ModelError(f"{name}: the tokenizer has no end token; set tokenizer.eos_token.")
    if len(tokenizer) > MOST_TOKENS * rows:
        raise ModelError(
            f"{name}: the tokenizer has {len(tokenizer)} tokens, the embedding only {rows} rows: not a pair. "
            "Give the tokenizer that the model was saved with."
        )
    if not LEAST_TOKENS * rows <= len(tokenizer) <= rows:
        logger.warning(
            "%s: the tokenizer knows %d tokens, the embedding has %d rows: is it this model's own?",
            name,
            len(tokenizer),
            rows,
        )
    strange = sorted(set(_CONTROL_TOKEN.findall(str(tokenizer.chat_template or ""))) - set(tokenizer.get_vocab()))
    if strange:
        logger.warning(
            "%s: the chat template writes %s, which the tokenizer does not know as one token: is it this model's own?",
            name,
            some_of(strange),
        )


def _file(adapter: AdapterFolder, name: str) -> str | None:
    """A file of an adapter's folder or hub id; None where it has no such file."""
    if os.path.isdir(adapter.path):
        return path if os.path.isfile(path := os.path.join(adapter.path, name)) else None
    file: str | None = cached_file(
        adapter.path,
        name,
        revision=adapter.revision,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return file


def _is_empty(tokenizer: PreTrainedTokenizerBase) -> bool:
    vocabulary = tokenizer.get_vocab()
    return len(vocabulary) - len({*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()} & set(vocabulary)) < 2


def _special(tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    """The special tokens by name, without the padding token, which no text contains."""
    tokens = tokenizer.special_tokens_map.items()
    return {name: token for name, token in tokens if isinstance(token, str) and name != "pad_token"}


def _rules(tokenizer: PreTrainedTokenizerBase) -> Any:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return repr(sorted(tokenizer.get_vocab().items(), key=repr))
    return orjson.loads(backend.to_str()) | {"padding": None, "truncation": None}  # as the last call left them
