"""An encoder as a folder: its files, hashes, model card, and the teacher it was distilled from.

influcoder.json              tier, settings, fingerprint, what it was distilled from, what it measured
README.md                    model card
backbone/                    a plain Sentence Transformers folder: loads without this package
head.safetensors             all tiers but the transformer: the closed-form head
expected.safetensors         the same: what the decoder expects after each token
pool_projector.safetensors   short tier: from a shortened pool text's features to its coordinates
query_projector.safetensors  from a query's real features to its coordinates
teacher.safetensors          what the teacher learnt from its sample, where it learns
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import safetensors
import safetensors.numpy
import torch

from influcoder.errors import ModelError, StoreCorrupt, StoreMismatch
from influcoder.maths.arrays import Floats
from influcoder.maths.drift import Agreement
from influcoder.model.decoder import Decoder
from influcoder.provenance import Provenance
from influcoder.store.files import atomic_write, read_sealed, sha256, write_sealed
from influcoder.student.card import (
    CARD,
    agreement_section,
    evidence_section,
    front_matter,
    limits_section,
    made_from_section,
)
from influcoder.student.effort import Effort
from influcoder.student.encoder import (
    DECODER_TIERS,
    EXPECTED,
    HEAD,
    POOL_PROJECTOR,
    PROJECTOR,
    QUERY_PROMPT,
    InfluenceEncoder,
)
from influcoder.student.head import ClosedFormHead
from influcoder.student.readers import DecoderReader, forward_reader
from influcoder.student.short_reader import ShortReader
from influcoder.student.trust import Trust
from influcoder.teachers.checkpoints import Checkpoint
from influcoder.teachers.make import teacher_again, teacher_now
from influcoder.teachers.teacher import Teacher

FORMAT = 4
KINDS = (".json", ".jinja", ".model", ".safetensors", ".txt", ".md")
"""of files that an encoder is read from: none of them runs code"""
TEACHER = "teacher.safetensors"


def save(encoder: InfluenceEncoder, folder: Path) -> None:
    """Write the encoder's folder; `influcoder.json` last, with the SHA-256 of every other file."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(encoder.backbone, Path):
        shutil.copytree(encoder.backbone, folder / "backbone", dirs_exist_ok=True)
    else:
        encoder.backbone.save(str(folder / "backbone"), create_model_card=False)
    files = encoder.tensors() | ({TEACHER: encoder.teacher_state} if encoder.teacher_state else {})
    for name, tensors in files.items():
        atomic_write(folder / name, safetensors.numpy.save(tensors))
    description = {
        "format": FORMAT,
        "tier": encoder.tier,
        "fingerprint": encoder.fingerprint,
        "settings": encoder.settings,
        "base_model": encoder.base_model,
        "made_by": encoder.provenance.json(),
        "measured": encoder.measured,
        "trust": {kind: asdict(trust) for kind, trust in encoder.trust.items()},
        "agreement": asdict(encoder.agreement) if encoder.agreement else None,
    }
    atomic_write(folder / CARD, model_card(description).encode())
    parts = sorted(path for path in (folder / "backbone").rglob("*") if path.is_file())
    hashes = {path.relative_to(folder).as_posix(): sha256(path) for path in (*parts, *map(folder.joinpath, files))}
    write_sealed(folder / "influcoder.json", description | {"files": hashes})


def load(folder: Path, *, decoder: Decoder | None = None) -> InfluenceEncoder:
    """Load an encoder's folder.

    Args:
        decoder: what the forward and the short tier read texts with; other tiers do without.

    Raises:
        ModelError: not an encoder folder, the decoder is another than the encoder's, or a file might run code.
        StoreMismatch: of another format version.
        StoreCorrupt: a file is missing, is not the one that was saved, or was added later.
    """
    path = folder / "influcoder.json"
    if not path.exists():
        raise ModelError(f"{folder}: no influcoder.json here, so it is not a finished encoder.")
    try:
        description = read_sealed(path, FORMAT)
        if description["format"] != FORMAT:
            raise StoreMismatch(f"{path}: format {description['format']}, this version reads {FORMAT}.")
        _check_files(folder, description["files"])
        encoder = _read(folder, description)
    except (KeyError, TypeError, AttributeError, OSError, safetensors.SafetensorError) as error:
        raise StoreCorrupt(f"{folder}: cannot be read as an encoder: {error!r}. Distill it again.") from error
    if decoder is not None:
        _refuse_other_decoder(encoder, decoder)
        read_with(encoder, decoder)
    return encoder


def read_with(encoder: InfluenceEncoder, decoder: Decoder) -> None:
    """Give an encoder of the forward or the short tier the decoder that it reads texts with; others need none.

    Raises:
        ModelError: the decoder is another than the encoder's.
    """
    if encoder.tier in DECODER_TIERS:
        _refuse_other_decoder(encoder, decoder)
        encoder.decoder_reader = _reader_with(encoder, decoder)


def _read(folder: Path, description: Mapping[str, Any]) -> InfluenceEncoder:
    def tensors(name: str) -> dict[str, Any]:
        return safetensors.numpy.load_file(folder / name) if name in description["files"] else {}

    head = tensors(HEAD)
    projectors: dict[str, Floats] = {
        name: tensor.astype(np.float32)
        for file in (PROJECTOR, POOL_PROJECTOR)
        for name, tensor in tensors(file).items()
    }
    encoder = InfluenceEncoder(
        folder / "backbone",
        ClosedFormHead(**head) if head else None,
        settings=description["settings"],
        provenance=Provenance.read(description["made_by"]),
        measured=description["measured"],
        base_model=description.get("base_model"),
        trust={kind: Trust(**numbers) for kind, numbers in description["trust"].items()},
        agreement=Agreement(**description["agreement"]) if description.get("agreement") else None,
        teacher_state=tensors(TEACHER),
        expected=tensors(EXPECTED),
        query_projector=projectors.get("query_projector"),
        pool_projector=projectors.get("pool_projector"),
    )
    encoder.__dict__["fingerprint"] = description["fingerprint"]
    encoder.folder = folder.absolute()
    return encoder


def _reader_with(encoder: InfluenceEncoder, decoder: Decoder) -> DecoderReader:
    effort = Effort.of(encoder.settings)
    if not effort.backward:
        return forward_reader(effort, decoder)
    teacher = teacher_of(encoder, effort.reading(decoder))
    if encoder.query_projector is None or encoder.pool_projector is None:
        raise ModelError("an encoder of the short tier has a projector for each side; one is missing. Distill again.")
    return ShortReader(teacher, encoder.query_projector, encoder.pool_projector)


def _refuse_other_decoder(encoder: InfluenceEncoder, decoder: Decoder) -> None:
    expected, actual = encoder.provenance.decoder, decoder.fingerprint
    if expected is not None and expected.decoder != actual.decoder:
        raise ModelError(
            f"{encoder.folder}: distilled from a decoder with weights {expected.decoder[:12]}, {decoder.name} has "
            f"{actual.decoder[:12]}. Give the decoder it was distilled from."
        )


def _check_files(folder: Path, files: Mapping[str, str]) -> None:
    """Refuse an encoder with a file that is not the one that was saved, or that may run code."""
    for name, expected in files.items():
        path = folder / name
        if path.suffix not in KINDS:
            raise ModelError(f"{path}: a {path.suffix or 'nameless'} file may run code when it is read; not loaded.")
        if not path.is_file():
            raise StoreCorrupt(f"{path}: missing. Distill the encoder again.")
        if sha256(path) != expected:
            raise StoreCorrupt(f"{path}: its bytes are not those that were saved. Distill the encoder again.")
    for path in (folder / "backbone").rglob("*"):
        if path.is_file() and path.relative_to(folder).as_posix() not in files:
            raise StoreCorrupt(f"{path}: was not saved with the encoder, and would be read with it. Remove it.")
    modules = folder / "backbone" / "modules.json"
    for module in orjson.loads(modules.read_bytes()) if modules.exists() else []:
        if not str(module["type"]).startswith("sentence_transformers."):
            raise ModelError(f"{modules}: {module['type']!r} is code from outside Sentence Transformers; not loaded.")


def teacher_of(encoder: InfluenceEncoder, decoder: Decoder, checkpoints: Sequence[Checkpoint] = ()) -> Teacher:
    """The teacher an encoder was distilled from, on the decoder given.

    Raises:
        StoreMismatch: the decoder is not the one it was distilled from.
    """
    return teacher_again(encoder.provenance, _state(encoder), decoder, checkpoints=checkpoints)


def teacher_of_later(encoder: InfluenceEncoder, decoder: Decoder) -> Teacher:
    """The same teacher at a later state of the decoder, with what it learnt from the earlier state.

    Raises:
        StoreMismatch: the decoder is another model.
        ConfigError: the teacher cannot be computed at all, or takes checkpoints.
    """
    return teacher_now(encoder.provenance, _state(encoder), decoder)


def _state(encoder: InfluenceEncoder) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in encoder.teacher_state.items()}


def model_card(
    description: Mapping[str, Any],
    name: str = "THIS_FOLDER",
    *,
    proof: Mapping[str, Any] | None = None,
    license_name: str | None = None,
) -> str:
    """The encoder's README.md: how to load it, what it was made from, how well it agrees with its teacher, its limits.

    Args:
        description: what influcoder.json holds.
        name: where it is loaded from: a hub id, or what stands for the folder.
        proof: the metrics.json of `influcoder prove`, where what it finds was proved.
        license_name: as the hub spells it, such as apache-2.0.
    """
    tier, base = description["tier"], description.get("base_model")
    made_by = description["made_by"]
    teacher = made_by.get("teacher", {}).get("name", "unknown")
    return f"""{front_matter("training-data-attribution", "influence", base_model=base, license_name=license_name)}
# Influence encoder ({tier} tier)

The inner product of a query's vector and a training example's estimates how much a training step on that example
would raise (above 0) or lower (below 0) the likelihood of the query's completion. It was distilled from the teacher
`{teacher}`{f", on the decoder `{base}`" if base else ""}.

## How to load it

```python
import influcoder

{_load(tier, name)}
index = influcoder.index(encoder, "corpus/*.jsonl", "index")
hits = influcoder.search(index, prompt="What is asked", completion="What the model says")
```

{_backbone(tier, name)}

{agreement_section(description["measured"])}

{evidence_section(proof)}

{limits_section()}

{made_from_section(made_by)}
"""


def _load(tier: str, name: str) -> str:
    if tier not in DECODER_TIERS:
        return f'encoder = influcoder.InfluenceEncoder.from_pretrained("{name}")'
    return (
        'decoder = influcoder.Decoder.load("THE_DECODER")  # the one named below\n'
        f'encoder = influcoder.InfluenceEncoder.from_pretrained("{name}", decoder=decoder)'
    )


def _backbone(tier: str, name: str) -> str:
    folder = '"THIS_FOLDER' if name == "THIS_FOLDER" else f'huggingface_hub.snapshot_download("{name}") + "'
    loads = (
        "`backbone/` is a Sentence Transformers model, which loads without Influcoder: "
        f'`SentenceTransformer({folder}/backbone")`.'
    )
    if tier != "transformer":
        return f"{loads} It is the decoder's token table alone: its vectors are not yet influences."
    return (
        f"{loads} Its unit vectors are the encoder's. A text is prompt, line break, completion; a query has "
        f"`{QUERY_PROMPT}` before it."
    )
