"""What an adapter's folder says of itself: its kind, its base, and whether it can be used at all.

All of it stands in `adapter_config.json`, so an adapter that cannot be used is refused before any weight is read.
"""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from transformers.utils.peft_utils import find_adapter_config_file

from influcoder.errors import ModelError, some_of

_BEFORE_THE_TEXT = "puts trained vectors before the text, which no weight of the model can hold"
_BY_THE_INPUT = "adds to a layer what depends on the whole input, which no weight of the model can hold"
NOT_MERGED = {
    "PROMPT_TUNING": _BEFORE_THE_TEXT,
    "MULTITASK_PROMPT_TUNING": _BEFORE_THE_TEXT,
    "P_TUNING": _BEFORE_THE_TEXT,
    "PREFIX_TUNING": _BEFORE_THE_TEXT,
    "CPT": _BEFORE_THE_TEXT,
    "CARTRIDGE": _BEFORE_THE_TEXT,
    "ADAPTION_PROMPT": _BEFORE_THE_TEXT,
    "XLORA": _BY_THE_INPUT,
    "POLY": _BY_THE_INPUT,
    "SHADOW": _BY_THE_INPUT,
    "LILY": "shares its matrices between layers, which PEFT does not merge",
}
_SETTINGS_NOT_MERGED = {
    "alora_invocation_tokens": ("aLoRA", "acts only after its invocation tokens, which no weight of the model can do"),
    "arrow_config": ("Arrow", _BY_THE_INPUT),
}
_VARIANTS = {
    "use_dora": "DoRA",
    "kasa_config": "KaSA",
    "use_bdlora": "BD-LoRA",
    "monteclora_config": "MonteCLoRA",
    "velora_config": "VeLoRA",
    "target_parameters": "LoRA of parameters",
    "layer_replication": "LoRA of replicated layers",
}
_OTHER_TASKS = {
    "SEQ_CLS": "classify texts",
    "TOKEN_CLS": "classify tokens",
    "QUESTION_ANS": "find answers in a text",
    "SEQ_2_SEQ_LM": "turn one text into another (an encoder-decoder)",
    "FEATURE_EXTRACTION": "embed texts",
}


@dataclass(frozen=True, slots=True)
class AdapterFolder:
    """A PEFT adapter that can be used, as its `adapter_config.json` describes it.

    Attributes:
        path: its folder or hub id.
        kind: "LoRA", "DoRA", "IA3" ...
        said: what its adapter_config.json holds.
        revision: of the hub id.
    """

    path: str
    kind: str
    said: Mapping[str, Any]
    revision: str | None = None

    @classmethod
    def find(cls, path: str | Path, *, revision: str | None = None) -> "AdapterFolder | None":
        """The adapter in a folder or at a hub id; None where there is none.

        Raises:
            ModelError: an adapter that cannot be used.
        """
        try:
            file = find_adapter_config_file(str(path), revision=revision)
        except OSError:  # neither a folder nor a hub id: whoever loads it says so
            return None
        if file is None:
            return None
        try:
            said = orjson.loads(Path(file).read_bytes())
        except (OSError, ValueError) as error:
            raise ModelError(f"{path}: adapter_config.json is not JSON: {error}. Save the adapter again.") from error
        if not isinstance(said, dict) or not isinstance(said.get("peft_type"), str):
            raise ModelError(f"{path}: adapter_config.json names no peft_type. Save the adapter again with PEFT.")
        _refuse_unusable(str(path), said)
        return cls(str(path), _kind(said), said, revision)

    @classmethod
    def read(cls, path: str | Path) -> "AdapterFolder":
        """The adapter in a folder or at a hub id.

        Raises:
            ModelError: there is none, or one that cannot be used; adapters in folders below are named.
        """
        found = cls.find(path)
        if found is None:
            raise ModelError(
                f"{path}: does not load as an adapter: no adapter_config.json here. "
                f"{_below(path) or 'Expected a folder that PEFT saved, or a hub id.'}"
            )
        return found

    def base(self) -> str:
        """The folder or hub id of the model that it was trained on, as its adapter_config.json names it.

        A relative path is looked up from here, then from the adapter's folder and those above it.

        Raises:
            ModelError: none is named, a folder is not there, or it is itself an adapter.
        """
        named, remedy = self.said.get("base_model_name_or_path"), f"Name it: --decoder BASE --adapter {self.path}."
        if not named or not isinstance(named, str):
            raise ModelError(f"{self.path}: an adapter whose adapter_config.json names no base model. {remedy}")
        folder = Path(os.path.abspath(self.path))
        above = [start / named for start in (folder, *folder.parents) if (start / named / "config.json").is_file()]
        if not os.path.isdir(named) and above:
            named = str(above[0])
        if not os.path.isdir(named) and not _could_be_a_hub_id(named):
            raise ModelError(
                f"{self.path}: its base model is {named} (base_model_name_or_path in adapter_config.json), and there "
                f"is no such folder here. {remedy}"
            )
        if os.path.isdir(named) and os.path.exists(os.path.join(named, "adapter_config.json")):
            raise ModelError(
                f"{self.path}: its base model {named} is itself an adapter, and only one adapter is merged. Merge that "
                f"one into its own base with PEFT's merge_and_unload, and save it. {remedy}"
            )
        return named


def base_and_adapter(
    decoder: str | Path, adapter: str | Path | None, *, revision: str | None = None
) -> tuple[str | Path, AdapterFolder | None]:
    """The base model and the adapter that `--decoder` and `--adapter` name; the former may itself be an adapter.

    Raises:
        ModelError: an adapter that cannot be used, whose base cannot be found, or more than one.
    """
    own = AdapterFolder.find(decoder, revision=revision)
    if own is None:
        if os.path.isdir(decoder) and not os.path.exists(os.path.join(decoder, "config.json")) and _below(decoder):
            raise ModelError(f"{decoder}: no model here. {_below(decoder)}")
        return decoder, None if adapter is None else AdapterFolder.read(adapter)
    if adapter is not None and os.path.realpath(adapter) != os.path.realpath(decoder):
        raise ModelError(
            f"{decoder}: is itself an adapter, and --adapter names another, {adapter}. Only one is merged: give the "
            "base model as --decoder."
        )
    whole = [name for name in _WHOLE if os.path.exists(os.path.join(decoder, name))]
    if whole:
        raise ModelError(
            f"{decoder}: holds a whole model ({whole[0]}) and an adapter (adapter_config.json), which may be merged "
            "into it already. Move the files of one of them elsewhere."
        )
    return own.base(), own


_WHOLE = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


def _below(path: str | Path) -> str:
    """The remedy where adapters are in folders below, where PEFT puts all but the default one; "" otherwise."""
    names = sorted(file.parent.name for file in Path(path).glob("*/adapter_config.json"))
    return f"It holds the adapters {some_of(names)}: name one, as {path}/{names[0]}." if names else ""


def _refuse_unusable(path: str, said: Mapping[str, Any]) -> None:
    """By name, from the config alone."""
    import peft
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING as CONFIGS

    kind, remedy = said["peft_type"], "Save it again with the PEFT that is installed, or `pip install -U peft`."
    if kind not in {one.value for one in CONFIGS}:
        raise ModelError(f"{path}: a {kind} adapter, a kind that peft {peft.__version__} does not know. {remedy}")
    known = {one.name for one in dataclasses.fields(CONFIGS[kind])} | {"runtime_config"}
    unknown = [f"{name} ({value!r})" for name, value in said.items() if name not in known and value]
    if unknown:
        raise ModelError(
            f"{path}: its adapter_config.json sets {some_of(unknown)}, which peft {peft.__version__} would ignore. "
            f"{remedy}"
        )
    reasons = [reason for setting, reason in _SETTINGS_NOT_MERGED.items() if said.get(setting)]
    for name, reason in [(kind, NOT_MERGED[kind])] if kind in NOT_MERGED else reasons:
        raise ModelError(
            f"{path}: this {name} adapter {reason}. It cannot be merged, and an adapter is merged before gradients are "
            "taken. Give one of another kind, such as LoRA, or a whole model."
        )
    task = said.get("task_type")
    if task in _OTHER_TASKS:
        raise ModelError(
            f"{path}: an adapter trained to {_OTHER_TASKS[task]} (task_type {task}), not to continue a text, whose "
            'loss is what is attributed. If that is what it was trained for, set "task_type": "CAUSAL_LM" in its '
            "adapter_config.json."
        )


def _could_be_a_hub_id(name: str) -> bool:
    return not os.path.isabs(name) and not name.startswith(".") and name.count("/") <= 1


def _kind(said: Mapping[str, Any]) -> str:
    if said["peft_type"] != "LORA":
        return str(said["peft_type"])
    return next((name for setting, name in _VARIANTS.items() if said.get(setting)), "LoRA")
