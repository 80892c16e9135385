"""An adapter's folder: its kind, its base model, and whether it can be used at all.

All of this is in `adapter_config.json`, so an adapter that cannot be used is refused before any weight is read.
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
_PROMPTS = ["PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CPT", "CARTRIDGE"]
NOT_MERGED = {
    **dict.fromkeys([*_PROMPTS, "ADAPTION_PROMPT"], _BEFORE_THE_TEXT),
    **dict.fromkeys(["XLORA", "POLY", "SHADOW"], _BY_THE_INPUT),
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
        config: the content of its adapter_config.json.
        revision: of the hub id.
    """

    path: str
    kind: str
    config: Mapping[str, Any]
    revision: str | None = None

    @classmethod
    def find(cls, path: str | Path, *, revision: str | None = None) -> "AdapterFolder | None":
        """The adapter in a folder or at a hub id; None where there is none.

        Raises:
            ModelError: an adapter that cannot be used.
        """
        try:
            file = find_adapter_config_file(str(path), revision=revision)
        except OSError:  # neither a folder nor a hub id: loading it fails with a message
            return None
        if file is None:
            return None
        try:
            config = orjson.loads(Path(file).read_bytes())
        except (OSError, ValueError) as error:
            raise ModelError(f"{path}: adapter_config.json is not JSON: {error}. Save the adapter again.") from error
        if not isinstance(config, dict) or not isinstance(kind := config.get("peft_type"), str):
            raise ModelError(f"{path}: adapter_config.json names no peft_type. Save the adapter again with PEFT.")
        _refuse_unusable(str(path), config)
        if kind == "LORA":
            kind = next((name for setting, name in _VARIANTS.items() if config.get(setting)), "LoRA")
        return cls(str(path), kind, config, revision)

    @classmethod
    def read(cls, path: str | Path) -> "AdapterFolder":
        """The adapter in a folder or at a hub id.

        Raises:
            ModelError: there is none, or one that cannot be used; adapters in folders below are named.
        """
        adapter = cls.find(path)
        if adapter is None:
            raise ModelError(
                f"{path}: does not load as an adapter: no adapter_config.json here. "
                f"{_adapters_below(path) or 'Expected a folder that PEFT saved, or a hub id.'}"
            )
        return adapter

    def base(self) -> str:
        """The folder or hub id of the model that it was trained on, as its adapter_config.json names it.

        A relative path is looked up in the working directory, then in the adapter's folder and those above it.

        Raises:
            ModelError: none is named, a folder is not there, or it is itself an adapter.
        """
        base, remedy = self.config.get("base_model_name_or_path"), f"Name it: --decoder BASE --adapter {self.path}."
        if not base or not isinstance(base, str):
            raise ModelError(f"{self.path}: an adapter whose adapter_config.json names no base model. {remedy}")
        folder = Path(os.path.abspath(self.path))
        above = [start / base for start in (folder, *folder.parents) if (start / base / "config.json").is_file()]
        if not os.path.isdir(base) and above:
            base = str(above[0])
        could_be_hub_id = not os.path.isabs(base) and not base.startswith(".") and base.count("/") <= 1
        if not os.path.isdir(base) and not could_be_hub_id:
            raise ModelError(
                f"{self.path}: its base model is {base} (base_model_name_or_path in adapter_config.json), and there "
                f"is no such folder here. {remedy}"
            )
        if os.path.exists(os.path.join(base, "adapter_config.json")):
            raise ModelError(
                f"{self.path}: its base model {base} is itself an adapter, and only one adapter is merged. Merge that "
                f"one into its own base with PEFT's merge_and_unload, and save it. {remedy}"
            )
        return base


def base_and_adapter(
    decoder: str | Path, adapter: str | Path | None, *, revision: str | None = None
) -> tuple[str | Path, AdapterFolder | None]:
    """The base model and the adapter that `--decoder` and `--adapter` name; `--decoder` may itself be an adapter.

    Raises:
        ModelError: an adapter that cannot be used, whose base cannot be found, or more than one.
    """
    folder = AdapterFolder.find(decoder, revision=revision)
    if folder is None:
        if not os.path.exists(os.path.join(decoder, "config.json")) and (remedy := _adapters_below(decoder)):
            raise ModelError(f"{decoder}: no model here. {remedy}")
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
    return folder.base(), folder


_WHOLE = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


def _adapters_below(path: str | Path) -> str:
    """The remedy if adapters are in folders below, where PEFT puts all but the default one; else ""."""
    names = sorted(file.parent.name for file in Path(path).glob("*/adapter_config.json"))
    return f"It holds the adapters {some_of(names)}: name one, as {path}/{names[0]}." if names else ""


def _refuse_unusable(path: str, config: Mapping[str, Any]) -> None:
    """Refuse an adapter that cannot be merged, or was not trained to continue a text, by its config alone."""
    import peft
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING as CONFIGS

    kind, remedy = config["peft_type"], "Save it again with the PEFT that is installed, or `pip install -U peft`."
    if kind not in {known.value for known in CONFIGS}:
        raise ModelError(f"{path}: a {kind} adapter, a kind that peft {peft.__version__} does not know. {remedy}")
    settings = {field.name for field in dataclasses.fields(CONFIGS[kind])} | {"runtime_config"}
    unknown = [f"{name} ({value!r})" for name, value in config.items() if name not in settings and value]
    if unknown:
        raise ModelError(
            f"{path}: its adapter_config.json sets {some_of(unknown)}, which peft {peft.__version__} would ignore. "
            f"{remedy}"
        )
    reasons = [reason for setting, reason in _SETTINGS_NOT_MERGED.items() if config.get(setting)]
    for name, reason in [(kind, NOT_MERGED[kind])] if kind in NOT_MERGED else reasons:
        raise ModelError(
            f"{path}: this {name} adapter {reason}. It cannot be merged, and an adapter is merged before gradients are "
            "taken. Give one of another kind, such as LoRA, or a whole model."
        )
    task = config.get("task_type")
    if task in _OTHER_TASKS:
        raise ModelError(
            f"{path}: an adapter trained to {_OTHER_TASKS[task]} (task_type {task}), not to continue a text, whose "
            'loss is what is attributed. If that is what it was trained for, set "task_type": "CAUSAL_LM" in its '
            "adapter_config.json."
        )
