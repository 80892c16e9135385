"""The Sentence Transformers model under an encoder: loaded by path or hub id, or looked into without loading it."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import tokenizers
import torch
from numpy.typing import NDArray

from influcoder.errors import ModelError
from influcoder.model.precision import Precision, use_bf16


def weights_of(backbone: Any) -> dict[str, Any]:
    """A backbone's tensors by name; a folder's static table without loading Sentence Transformers."""
    if isinstance(backbone, Path):
        return dict(safetensors.numpy.load_file(next(backbone.rglob("model.safetensors"))))
    return {
        name.removeprefix("0."): value.detach().cpu().float().numpy() for name, value in backbone.state_dict().items()
    }


def tokenizer_of(backbone: Any) -> tokenizers.Tokenizer:
    """A backbone's tokenizer; a folder's without loading Sentence Transformers."""
    if isinstance(backbone, Path):
        return tokenizers.Tokenizer.from_file(str(next(backbone.rglob("tokenizer.json"))))
    tokenizer: tokenizers.Tokenizer = getattr(backbone[0].tokenizer, "backend_tokenizer", backbone[0].tokenizer)
    return tokenizer


def sentence_transformer(backbone: Any) -> Any:
    """The Sentence Transformers model of a folder or hub id; a model is returned as it is.

    Raises:
        ModelError: it cannot be loaded.
    """
    if not isinstance(backbone, str | Path):
        return backbone
    from sentence_transformers import SentenceTransformer

    try:
        return SentenceTransformer(str(backbone), device="cuda" if torch.cuda.is_available() else "cpu")
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{backbone}: does not load as a Sentence Transformers model: {error}. Expected a folder or a hub id."
        ) from error


TOKENS_AT_ONCE = 1024


def embed(backbone: Any, texts: Sequence[str], *, precision: Precision = "auto") -> NDArray[np.float32]:
    """Embed texts once as `backbone.encode(texts, normalize_embeddings=True)` does; (n, d), unit rows.

    To embed again and again, keep an `Embedder`: in bfloat16 every call here copies the weights.

    Args:
        backbone: a Sentence Transformers model; its default prompt, if it has one, goes before every text.
        precision: as of `Embedder`.
    """
    prompt = backbone.prompts.get(backbone.default_prompt_name) or ""
    return Embedder(backbone, precision=precision)([prompt + text for text in texts])


class Embedder:
    """Embeds texts with a Sentence Transformers model, several times faster than its own `encode` on a CPU.

    Texts go through in batches of similar lengths of at most `TOKENS_AT_ONCE` padded tokens, which fit the caches; the
    weights are a bfloat16 copy where the processor has such products. Unit rows, as with `normalize_embeddings`.

    Args:
        backbone: a Sentence Transformers model; left as it is.
        precision: "fp32" embeds as `encode` with an empty prompt does, to rounding.
    """

    def __init__(self, backbone: Any, *, precision: Precision = "auto") -> None:
        self._static = not hasattr(backbone[0], "auto_model")
        if not self._static and use_bf16(precision, torch.device(backbone.device)):
            backbone = copy.deepcopy(backbone).to(torch.bfloat16)
        self._backbone = backbone.eval()

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, d) float32."""
        if not texts:
            return np.zeros((0, self._backbone.get_embedding_dimension() or 0), np.float32)
        if self._static:
            rows = self._backbone.encode(list(texts), prompt="", normalize_embeddings=True, show_progress_bar=False)
            return np.asarray(rows, np.float32)
        encoded = self._backbone.tokenizer(list(texts), truncation=True, max_length=self._backbone.max_seq_length)
        lengths = [len(ids) for ids in encoded["input_ids"]]
        order = sorted(range(len(texts)), key=lambda text: -lengths[text])
        batches, start = [], 0
        with torch.inference_mode():
            while start < len(order):
                stop = start + max(1, TOKENS_AT_ONCE // max(1, lengths[order[start]]))
                batches.append(unit_embeddings(self._backbone, [texts[text] for text in order[start:stop]]).cpu())
                start = stop
        return np.asarray(torch.cat(batches).numpy()[np.argsort(order)], np.float32)


def unit_embeddings(backbone: Any, texts: list[str]) -> torch.Tensor:
    """(n, d) float32 unit rows of one batch, on the backbone's device; gradients flow where they are enabled."""
    features = {
        name: value.to(backbone.device) if torch.is_tensor(value) else value
        for name, value in backbone.preprocess(texts).items()
    }
    rows = backbone(features)["sentence_embedding"].float()[:, : backbone.truncate_dim]
    return torch.nn.functional.normalize(rows, dim=-1)
