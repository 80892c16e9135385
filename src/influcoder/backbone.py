"""The Sentence Transformers model under an encoder: loaded by path or hub id, or looked into without loading it."""

from pathlib import Path
from typing import Any

import safetensors.numpy
import tokenizers
import torch

from influcoder.errors import ModelError


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
    found: tokenizers.Tokenizer = getattr(backbone[0].tokenizer, "backend_tokenizer", backbone[0].tokenizer)
    return found


def sentence_transformer(backbone: Any) -> Any:
    """The Sentence Transformers model of a folder or hub id; a model is given back as it is.

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
