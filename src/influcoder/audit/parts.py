"""The parts of a chain: what each folder of a run is, and what it says it was made from."""

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from influcoder.attribution.selection import FILE, Selection
from influcoder.errors import ConfigError, InflucoderError
from influcoder.indexes.own_encoder import encoder_folder
from influcoder.store.store import Store

Kind = Literal["decoder", "features", "encoder", "evaluation", "index", "selection", "proof"]
CHAIN: tuple[Kind, ...] = ("decoder", "features", "encoder", "evaluation", "index", "selection", "proof")
NEEDS: Mapping[Kind, tuple[Kind, ...]] = {
    "decoder": (),
    "features": ("decoder",),
    "encoder": ("features",),
    "evaluation": ("encoder",),
    "index": ("encoder",),
    "selection": ("index",),
    "proof": ("index",),
}
"""what each part was made from"""
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "adapter_config.json", "adapter_model.safetensors")


@dataclass(frozen=True, slots=True)
class Part:
    """A folder that a verb wrote, or a decoder, perhaps with its adapter."""

    kind: Kind
    path: Path
    adapter: str | None = None

    @property
    def config(self) -> dict[str, Any]:
        """The config.toml that made it; empty where there is none."""
        return read_config(self.path)

    def sources(self) -> Iterator["Part"]:
        """The folders that it says it was made from, where they exist."""
        paths = {kind: self.config.get(kind) for kind in NEEDS[self.kind]}
        if self.kind == "selection" and not paths["index"]:
            try:
                paths["index"] = Selection.load(self.path).index
            except InflucoderError:  # reported where the selection itself is checked
                return
        if self.kind == "index" and kind_of(Path(paths["encoder"] or "")) != "encoder":
            paths["encoder"] = self._own_encoder()
        for kind, path in paths.items():
            if isinstance(path, str | Path) and kind_of(Path(path)) == kind:
                yield Part(kind, Path(path), self.config.get("adapter") if kind == "decoder" else None)

    def _own_encoder(self) -> Path:
        """The encoder that is kept with an index."""
        try:
            made_by = Store(self.path, lazily=True).provenance.encoder
        except InflucoderError:  # reported where the index itself is checked
            made_by = None
        return encoder_folder(self.path, made_by or "")


def read_config(folder: Path) -> dict[str, Any]:
    """The config.toml of a folder; empty where there is none that can be read."""
    try:
        return tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def kind_of(path: Path) -> Kind | None:
    """What a folder is, even if a file in it is missing."""
    if not path.is_dir():
        return None

    def has(*names: str) -> bool:
        return any((path / name).exists() for name in names)

    if has(FILE, "selection.json"):
        return "selection"
    if has("influcoder.json") or (has("head.safetensors", "training.parquet") and has("backbone")):
        return "encoder"
    if has("trainings") and has("record.json", "metrics.json"):
        return "proof"
    if (has("queries") and has("pool")) and (list(path.glob("pool/*.safetensors")) or list(path.glob("pool/m*.json"))):
        return "features"
    if list(path.glob("encoder*")) and list(path.glob("shard-*")):
        return "index"
    if has("metrics.json") and read_config(path).keys() >= {"encoder", "features"}:
        return "evaluation"
    return "decoder" if has("config.json") and has(*_WEIGHTS) and not has("modules.json") else None


def find_parts(run: Path, decoder: Path | None = None, adapter: str | None = None) -> list[Part]:
    """The parts in a folder, or the part that it is, and what they were made from where that is elsewhere.

    Args:
        decoder: a decoder that is not among them, with its adapter; the one in the run's own config.toml when omitted.

    Raises:
        ConfigError: there are none.
    """
    config = read_config(run)
    if decoder is None and kind_of(Path(str(config.get("decoder", "")))) == "decoder" and kind_of(run) is None:
        decoder, adapter = Path(config["decoder"]), config.get("adapter")
    named = [Part("decoder", decoder, adapter)] if decoder else []
    parts = named + [part for part in _within(run) if part.path != decoder]
    if parts == named:
        raise ConfigError(
            f"{run}: no features, encoder, evaluation, index, selection or proof in it. Give a folder that influcoder "
            "wrote, or one that holds several."
        )
    for part in parts:  # the list grows while it is read
        parts += [source for source in part.sources() if source.kind not in {known.kind for known in parts}]
    return sorted(dict.fromkeys(parts), key=lambda part: CHAIN.index(part.kind))


def _within(folder: Path) -> Iterator[Part]:
    if kind := kind_of(folder):
        yield Part(kind, folder)
        return
    for path, folders, _ in os.walk(folder):
        for name in sorted(folders):
            if kind := kind_of(Path(path, name)):
                yield Part(kind, Path(path, name))
        folders[:] = [name for name in folders if kind_of(Path(path, name)) is None]
