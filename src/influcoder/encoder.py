"""The student: text in, vector out; the inner product of two vectors estimates an influence.

    influcoder.json              tier, settings, fingerprint, what it was distilled from, what it measured
    README.md                    model card
    backbone/                    a plain Sentence Transformers folder: loads without this package
    head.safetensors             static tier: the closed-form head
    query_projector.safetensors  from a query's real features to its vector

The static tier reads the backbone's table and tokenizer and needs no Sentence Transformers to run. The
transformer tier is a Sentence Transformers bi-encoder whose unit vectors are used as they are.
"""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import safetensors.numpy
import tokenizers
from numpy.typing import NDArray

from influcoder.atomic import atomic_write, write_json
from influcoder.baselines import plain_text
from influcoder.errors import ModelError, StoreCorrupt, StoreMismatch
from influcoder.examples import Example
from influcoder.head import ClosedFormHead, Role
from influcoder.static import StaticReader

FORMAT = 1
Floats = NDArray[np.float32]
QUERY_PROMPT = "Represent this example to find the training examples that influence it: "


class InfluenceEncoder:
    """Encodes queries and pool examples into one space of influence.

    Make one with `influcoder.distill` or `InfluenceEncoder.load(folder)`.

    Args:
        backbone: a Sentence Transformers model.
        head: the static tier's head; None for the transformer tier.
        query_projector: (width, spectral dim) for exact queries, or None.
        settings: what it takes to read texts the same way again.
        made_by: teacher, data and seed it was distilled from.
        measured: its validation results, for the model card.
    """

    def __init__(
        self,
        backbone: Any,
        head: ClosedFormHead | None,
        *,
        query_projector: Floats | None = None,
        settings: Mapping[str, Any] | None = None,
        made_by: Mapping[str, Any] | None = None,
        measured: Mapping[str, Any] | None = None,
    ) -> None:
        self.backbone = backbone
        self.head = head
        self.query_projector = query_projector
        self.settings = dict(settings or {})
        self.made_by = dict(made_by or {})
        self.measured = dict(measured or {})

    @property
    def tier(self) -> str:
        return "static" if self.head is not None else "transformer"

    @cached_property
    def dim(self) -> int:
        """Numbers in a vector."""
        return int(self.encode_pool([Example("", "a", "b")]).shape[1])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that changes its vectors."""
        digest = hashlib.sha256(orjson.dumps(self.settings, option=orjson.OPT_SORT_KEYS))
        for tensors in (self._head_tensors(), self._backbone_tensors()):
            for name, tensor in sorted(tensors.items()):
                digest.update(name.encode() + np.ascontiguousarray(tensor).tobytes())
        return digest.hexdigest()

    def encode_query(self, examples: Sequence[Example]) -> Floats:
        """(n, dim) vectors of queries, from their text alone."""
        return self._encode(examples, "query")

    def encode_pool(self, examples: Sequence[Example]) -> Floats:
        """(n, dim) vectors of pool examples."""
        return self._encode(examples, "pool")

    def project_query(self, examples: Sequence[Example], features: Floats) -> Floats:
        """(n, dim) vectors of queries whose real teacher features, (n, width), are at hand.

        Raises:
            ModelError: the encoder has no projector, or the features have another width.
        """
        if self.head is None or self.query_projector is None:
            raise ModelError("this encoder has no query projector; give queries as text only.")
        if features.shape[1] != self.query_projector.shape[0]:
            raise ModelError(
                f"query features have {features.shape[1]} numbers, the projector takes "
                f"{self.query_projector.shape[0]}: they come from another teacher than the encoder's."
            )
        _, channels = self.reader.read(examples, self.head.idf)
        return self.head.vectors((features @ self.query_projector).astype(np.float32), channels)

    @cached_property
    def reader(self) -> StaticReader:
        """Reads texts for the static tier."""
        tensors = self._backbone_tensors()
        return StaticReader(self._tokenizer(), tensors["embedding.weight"].astype(np.float32), **self.settings)

    def save(self, folder: str | Path) -> None:
        """Write the encoder's folder; `influcoder.json` last, so that a whole one has it."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(self.backbone, Path):
            shutil.copytree(self.backbone, folder / "backbone", dirs_exist_ok=True)
        else:
            self.backbone.save(str(folder / "backbone"), create_model_card=False)
        if self.head is not None:
            atomic_write(folder / "head.safetensors", safetensors.numpy.save(self._head_tensors()))
        if self.query_projector is not None:
            packed = {"query_projector": self.query_projector.astype(np.float16)}
            atomic_write(folder / "query_projector.safetensors", safetensors.numpy.save(packed))
        description = {
            "format": FORMAT,
            "tier": self.tier,
            "fingerprint": self.fingerprint,
            "settings": self.settings,
            "made_by": self.made_by,
            "measured": self.measured,
        }
        atomic_write(folder / "README.md", model_card(description).encode())
        write_json(folder / "influcoder.json", description)

    @classmethod
    def load(cls, folder: str | Path) -> "InfluenceEncoder":
        """Load an encoder's folder.

        Raises:
            ModelError: not an encoder folder.
            StoreMismatch: of another format version.
            StoreCorrupt: its tensors are not those that were saved.
        """
        folder = Path(folder)
        path = folder / "influcoder.json"
        if not path.exists():
            raise ModelError(f"{folder}: no influcoder.json here, so it is not a finished encoder.")
        try:
            description = orjson.loads(path.read_bytes())
            if description["format"] != FORMAT:
                raise StoreMismatch(f"{path}: format {description['format']}, this version reads {FORMAT}.")
            head, projector = None, None
            if description["tier"] == "static":
                tensors = safetensors.numpy.load_file(folder / "head.safetensors")
                head = ClosedFormHead(**tensors)
            if (folder / "query_projector.safetensors").exists():
                packed = safetensors.numpy.load_file(folder / "query_projector.safetensors")
                projector = packed["query_projector"].astype(np.float32)
            encoder = cls(
                folder / "backbone",
                head,
                query_projector=projector,
                settings=description["settings"],
                made_by=description["made_by"],
                measured=description["measured"],
            )
            fingerprint = encoder.fingerprint
        except (KeyError, TypeError, OSError, orjson.JSONDecodeError, safetensors.SafetensorError) as error:
            raise StoreCorrupt(f"{folder}: cannot be read as an encoder: {error!r}. Distil it again.") from error
        if fingerprint != description["fingerprint"]:
            raise StoreCorrupt(f"{folder}: its tensors are not those that were saved. Distil it again.")
        return encoder

    def _encode(self, examples: Sequence[Example], role: Role) -> Floats:
        if self.head is not None:
            features, channels = self.reader.read(examples, self.head.idf)
            joined = np.concatenate([features[name] for name in self.settings_groups()], axis=1)
            return self.head.vectors(self.head.coordinates(role, joined), channels)
        model = self.backbone = sentence_transformer(self.backbone)
        prompt = QUERY_PROMPT if role == "query" else ""
        texts = [prompt + plain_text(example) for example in examples]
        return np.asarray(model.encode(texts, normalize_embeddings=True, show_progress_bar=False), np.float32)

    def settings_groups(self) -> list[str]:
        """The feature groups the head reads, in order."""
        return ["surface", "completion", "prompt", "opening", *(f"pairs{lag}" for lag in self.settings["lags"])]

    def _head_tensors(self) -> dict[str, Floats]:
        return {} if self.head is None else self.head.tensors()

    def _backbone_tensors(self) -> dict[str, Floats]:
        if isinstance(self.backbone, Path):
            found = sorted(self.backbone.rglob("*.safetensors"))
            if not found:
                raise StoreCorrupt(f"{self.backbone}: no weights here. Distil the encoder again.")
            return {name: value for path in found for name, value in safetensors.numpy.load_file(path).items()}
        return {
            name.removeprefix("0."): value.detach().cpu().float().numpy()
            for name, value in self.backbone.state_dict().items()
        }

    def _tokenizer(self) -> tokenizers.Tokenizer:
        if isinstance(self.backbone, Path):
            return tokenizers.Tokenizer.from_file(str(next(self.backbone.rglob("tokenizer.json"))))
        found: tokenizers.Tokenizer = self.backbone[0].tokenizer
        return found


def sentence_transformer(backbone: Any) -> Any:
    """The Sentence Transformers model of a folder or hub id; a model is given back as it is.

    Raises:
        ModelError: it cannot be loaded.
    """
    if not isinstance(backbone, str | Path):
        return backbone
    import torch
    from sentence_transformers import SentenceTransformer

    try:
        return SentenceTransformer(str(backbone), device="cuda" if torch.cuda.is_available() else "cpu")
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{backbone}: does not load as a Sentence Transformers model: {error}. Expected a folder or a hub id."
        ) from error


def model_card(description: Mapping[str, Any]) -> str:
    """The encoder's README.md: what it is, what it was made from, how well it agrees, how to use it."""
    measured = "\n".join(f"| {name} | {value:.3f} |" for name, value in sorted(description["measured"].items()))
    made_by = "\n".join(f"- {name}: `{value}`" for name, value in sorted(description["made_by"].items()))
    return f"""---
library_name: sentence-transformers
tags: [influcoder, training-data-attribution, influence]
---
# Influence encoder ({description["tier"]} tier)

Estimates how much training on an example would raise the likelihood of another one's completion.

```python
from influcoder import InfluenceEncoder

encoder = InfluenceEncoder.load("THIS_FOLDER")
```

`backbone/` is a plain Sentence Transformers folder and loads without Influcoder.

## Agreement with its teacher on validation examples

| metric | value |
|---|---|
{measured}

## Made from

{made_by}
"""
