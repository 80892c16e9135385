"""The student: text in, vector out; the inner product of two vectors estimates an influence.

The static tier reads the backbone's table and tokenizer and needs no Sentence Transformers to run. The forward and
the short tier run the decoder as well, so they are loaded with it. The transformer tier is a Sentence
Transformers bi-encoder whose unit vectors are used as they are.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from influcoder.data.examples import Example, Role, plain_text
from influcoder.errors import ModelError
from influcoder.maths.arrays import Floats
from influcoder.maths.drift import Agreement
from influcoder.model.decoder import Decoder
from influcoder.provenance import Provenance
from influcoder.student.backbone import Embedder, sentence_transformer, tokenizer_of, weights_of
from influcoder.student.head import ClosedFormHead
from influcoder.student.readers import DecoderReader
from influcoder.student.static_reader import CHANNELS, StaticReader
from influcoder.student.trust import Trust

HEAD, PROJECTOR = "head.safetensors", "query_projector.safetensors"
EXPECTED, POOL_PROJECTOR = "expected.safetensors", "pool_projector.safetensors"
DECODER_TIERS = ("forward", "short")
"""which run the decoder on every text"""
QUERY_PROMPT = "Represent this example to find the training examples that influence it: "


class InfluenceEncoder:
    """Encodes queries and pool examples into one space of influence.

    Make one with `influcoder.distill`; load one with `InfluenceEncoder.from_pretrained`.

    Args:
        backbone: a Sentence Transformers model.
        head: the static tier's head; None for the transformer tier.
        query_projector: (width, spectral dim) for exact queries, or None.
        settings: what it takes to read texts the same way again.
        provenance: the teacher it was distilled from, and how.
        measured: its validation results, for the model card.
        teacher_state: what its teacher learnt from a sample, for exact queries and re-checks.
        expected: what the decoder expects after each token (`influcoder.student.decoder_tables.expected_embeddings`).
        pool_projector: the short tier's, (width, spectral dim), as the query projector for pool examples.
        decoder_reader: what reads texts with the decoder, in the forward and the short tier.
        trust: how far to trust rankings of queries from "text" and of "exact" ones.
        agreement: with its teacher on validation examples, and how precisely that is known: the baseline of drift.
        base_model: the hub id of the model it was made from, if it has one.
    """

    def __init__(
        self,
        backbone: Any,
        head: ClosedFormHead | None,
        *,
        query_projector: Floats | None = None,
        settings: Mapping[str, Any] | None = None,
        provenance: Provenance | None = None,
        measured: Mapping[str, Any] | None = None,
        teacher_state: Mapping[str, NDArray[Any]] | None = None,
        expected: Mapping[str, Floats] | None = None,
        pool_projector: Floats | None = None,
        decoder_reader: DecoderReader | None = None,
        trust: Mapping[str, Trust] | None = None,
        agreement: Agreement | None = None,
        base_model: str | None = None,
    ) -> None:
        self.backbone = backbone
        self.head = head
        self.query_projector = query_projector
        self.settings = dict(settings or {})
        self.provenance = provenance or Provenance()
        self.measured = dict(measured or {})
        self.teacher_state = dict(teacher_state or {})
        self.expected = dict(expected or {})
        self.pool_projector = pool_projector
        self.decoder_reader = decoder_reader
        self.trust = dict(trust or {})
        self.agreement = agreement
        self.base_model = base_model
        self.folder: Path | None = None
        """where it was loaded from"""

    @property
    def tier(self) -> str:
        return str(self.settings.get("tier", "transformer"))

    @property
    def decoder(self) -> Decoder | None:
        """What it reads texts with, where its tier runs one and it was loaded with it."""
        return self.decoder_reader.decoder if self.decoder_reader else None

    @cached_property
    def dim(self) -> int:
        """Numbers in a vector."""
        return int(self.encode_pool([Example("", "a", "b")]).shape[1])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that changes its vectors."""
        digest = hashlib.sha256(orjson.dumps(self.settings, option=orjson.OPT_SORT_KEYS))
        digest.update(tokenizer_of(self.backbone).to_str().encode())
        learnt = {name: tensor for tensors in self.tensors().values() for name, tensor in tensors.items()}
        for name, tensor in sorted((learnt | weights_of(self.backbone)).items()):
            digest.update(name.encode() + np.ascontiguousarray(tensor).tobytes())
        return digest.hexdigest()

    def encode_query(self, examples: Sequence[Example]) -> Floats:
        """(n, dim) vectors of queries, from their text alone."""
        return self._encode(examples, "query")

    def encode_pool(self, examples: Sequence[Example]) -> Floats:
        """(n, dim) vectors of pool examples."""
        return self._encode(examples, "pool")

    def project_query(self, examples: Sequence[Example], features: Floats) -> Floats:
        """(n, dim) vectors of queries whose exact teacher features, (n, width), are given.

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
        channels = self.channels(examples, self.head.idf, self.head.channels)
        return self.head.vectors((features @ self.query_projector).astype(np.float32), channels)

    def coordinates(self, examples: Sequence[Example], role: Role) -> Floats:
        """(n, k) spectral coordinates of examples; ModelError where the encoder has no closed-form head."""
        if self.head is None:
            raise ModelError("this encoder was not solved in closed form, so it has no spectral coordinates.")
        read = self.features(examples, role, self.settings["groups"][role])
        return self.head.coordinates(role, np.concatenate(list(read.values()), axis=1))

    def features(
        self, examples: Sequence[Example], role: Role, groups: Sequence[str] | None = None
    ) -> dict[str, Floats]:
        """The features of examples by group: the groups named, or all that this tier reads.

        Raises:
            ModelError: the tier runs the decoder, and the encoder was loaded without.
        """
        static = self.reader.groups
        features = self.reader.read(examples, [name for name in groups or static if name in static], ())[0]
        if self.tier in DECODER_TIERS and not (groups and set(groups) <= set(static)):
            if self.decoder_reader is None:
                raise ModelError(
                    f"an encoder of the {self.tier} tier reads texts with its decoder: give it with --decoder."
                )
            features |= self.decoder_reader.read(examples, role)
        return features if groups is None else {name: features[name] for name in groups}

    def channels(self, examples: Sequence[Example], idf: Floats, names: Sequence[str] = CHANNELS) -> dict[str, Floats]:
        """Identity channels of examples by name, their tokens weighted by `idf`."""
        return self.reader.read(examples, (), names, idf)[1] if names else {}

    @cached_property
    def reader(self) -> StaticReader:
        """Reads texts for the static tier."""
        table = weights_of(self.backbone)["embedding.weight"].astype(np.float32)
        expected = {name: values.astype(np.float32) for name, values in self.expected.items()}
        return StaticReader(tokenizer_of(self.backbone), table, **(self.settings["reading"] | expected))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the encoder's folder, which `from_pretrained` reads; see `influcoder.student.encoder_folder`."""
        from influcoder.student import encoder_folder

        encoder_folder.save(self, Path(folder))

    save = save_pretrained

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | Path | None = None,
        decoder: Decoder | None = None,
    ) -> "InfluenceEncoder":
        """Load an encoder from the folder that `influcoder distill` wrote, or from the Hugging Face hub.

        Every file is checked against the hash that was saved with it; none of a kind that can run code is read.

        Args:
            name: a folder, or a hub id such as "owner/name".
            revision: of a hub id: a branch, tag or commit.
            token: of a hub id that is private; that of `hf auth login` when omitted.
            cache_dir: where the hub's files are kept.
            decoder: what the forward and the short tier read texts with; other tiers do without.

        Raises:
            ModelError: neither folder nor hub has it, the decoder is another than its own, or a file might run code.
            StoreMismatch: of another format version.
            StoreCorrupt: a file is missing, or is not the one that was saved.

        >>> encoder = InfluenceEncoder.from_pretrained("encoder")
        >>> encoder.encode_pool([Example("a", "Where is Paris?", "In France.")]).shape == (1, encoder.dim)
        True
        """
        from influcoder.student import hub

        return cls.load(hub.fetch(name, revision=revision, token=token, cache_dir=cache_dir), decoder=decoder)

    @classmethod
    def load(cls, folder: str | Path, *, decoder: Decoder | None = None) -> "InfluenceEncoder":
        """Load an encoder from a folder on this machine alone; otherwise as `from_pretrained`."""
        from influcoder.student import encoder_folder

        return encoder_folder.load(Path(folder), decoder=decoder)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str = "Push an influence encoder",
        private: bool | None = None,
        token: str | None = None,
        branch: str | None = None,
        create_pr: bool = False,
        proof: Path | None = None,
        license: str | None = None,
    ) -> str:
        """Upload the encoder to the Hugging Face hub, for `from_pretrained`; returns the commit's address.

        Args:
            repo_id: "owner/name"; made if there is none.
            private: make it for yourself and your organisation.
            token: that of `hf auth login` when omitted.
            branch: where to commit, if not to main.
            create_pr: open a pull request instead.
            proof: the folder of an `influcoder prove` with this encoder: the card then reports what it showed.
            license: for the card, as the hub spells it, such as "apache-2.0".

        Raises:
            ModelError: the hub refuses.
        """
        from influcoder.store.hub import Destination
        from influcoder.student import hub

        to = Destination(repo_id, commit_message, private, token, branch, create_pr)
        return hub.push(self, to, proof=proof, license=license)

    def _encode(self, examples: Sequence[Example], role: Role) -> Floats:
        if self.head is not None:
            channels = self.channels(examples, self.head.idf, self.head.channels)
            return self.head.vectors(self.coordinates(examples, role), channels)
        prompt = QUERY_PROMPT if role == "query" else ""
        return self._embedder([prompt + plain_text(example) for example in examples])

    @cached_property
    def _embedder(self) -> Embedder:
        self.backbone = sentence_transformer(self.backbone)
        return Embedder(self.backbone, precision=self.settings.get("precision", "auto"))

    def tensors(self) -> dict[str, dict[str, Any]]:
        """The tensors that are saved beside the backbone, by file name."""
        files: dict[str, dict[str, Any]] = {}
        if self.head is not None:
            files[HEAD] = self.head.tensors()
        if self.expected:
            files[EXPECTED] = self.expected
        if self.query_projector is not None:
            files[PROJECTOR] = {"query_projector": self.query_projector.astype(np.float16)}
        if self.pool_projector is not None:
            files[POOL_PROJECTOR] = {"pool_projector": self.pool_projector.astype(np.float16)}
        return files
