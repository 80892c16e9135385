"""An index on the Hugging Face hub: a data set of texts, their vectors, and the encoder that made them."""

import os
import shutil
import tempfile
from pathlib import Path

from influcoder.indexes.index import Index
from influcoder.indexes.own_encoder import encoder_in
from influcoder.model.decoder import Decoder
from influcoder.store import hub
from influcoder.store.files import atomic_write
from influcoder.store.hub import Destination
from influcoder.student.card import CARD, card_of_encoder_parts, front_matter
from influcoder.student.hub import evidence

REBUILT = ("index.faiss", "index.json")
"""not pushed: FAISS reads its files without any check, and they are rebuilt from the rest"""


def open_pushed(
    name: str | Path,
    decoder: Decoder | None = None,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | Path | None = None,
) -> Index:
    """See `Index.from_pretrained`."""
    verb, marker = "`influcoder index`", "manifest.json"
    folder = hub.fetch(name, verb, marker, kind="dataset", revision=revision, token=token, cache_dir=cache_dir)
    hub.refuse_code(folder, REBUILT)
    index = Index(folder, decoder=decoder)
    index.verify()
    if decoder is not None:
        encoder_in(folder, index.encoder.fingerprint, decoder)  # refuses any other decoder
    return index


def push(index: Index, to: Destination, *, proof: Path | None = None, license: str | None = None) -> str:
    """See `Index.push_to_hub`."""
    index.verify()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "index"
        ignored = shutil.ignore_patterns(*REBUILT, ".*", "config.toml")
        shutil.copytree(index.folder.absolute(), folder, ignore=ignored, copy_function=os.symlink)
        card = index_card(index, to.repo_id, proof=proof, license=license)
        atomic_write(folder / CARD, card.encode())
        return hub.push(folder, to, "index", kind="dataset")


def index_card(index: Index, name: str, *, proof: Path | None = None, license: str | None = None) -> str:
    """Its README.md: how to ask it, how far to trust it, what was proved with it, its limits, what it was made from."""
    teacher = index.encoder.provenance.teacher
    limit = "It holds the texts of the pool: whoever can read it can read them."
    about = card_of_encoder_parts(index.encoder, evidence(proof), limit)
    return f"""{front_matter("training-data-attribution", "influence", license_name=license)}
# Influence index of {len(index):,} rows

Which of these training examples push a model towards an answer, and which push it away? Vectors were made by the
encoder in `encoder/`, distilled from the teacher `{teacher.name if teacher else "unknown"}`.

## How to ask it

```python
import influcoder

index = influcoder.Index.from_pretrained("{name}")  # every hash is checked
hits = influcoder.search(index, prompt="What is asked", completion="What the model says")
```

{about}
"""
