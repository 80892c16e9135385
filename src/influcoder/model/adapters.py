"""LoRA adapters: merged into their base, with A and B kept for those who ask for their gradients."""

from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel

from influcoder.errors import ModelError, first_line, some_of

Adapter = dict[str, tuple[Tensor, Tensor, float]]
"""A, B and scale by layer name; none of a layer that DoRA rescales, whose gradients are others"""


def with_adapter(model: PreTrainedModel, adapter: str | Path) -> tuple[PreTrainedModel, Adapter]:
    """A model with a LoRA adapter merged into it, and the adapter's parts.

    Raises:
        ModelError: the adapter does not load, is not LoRA, or belongs to another base.
    """
    from peft import PeftConfig, PeftModel, PeftType, get_peft_model_state_dict, load_peft_weights

    try:
        kind = PeftConfig.from_pretrained(str(adapter)).peft_type
        loaded = PeftModel.from_pretrained(model, str(adapter)) if kind == PeftType.LORA else None
        stored = set(load_peft_weights(str(adapter), device="cpu"))
    except Exception as error:  # as in `Decoder.load`
        raise ModelError(
            f"{adapter}: does not load as an adapter of {model.config.name_or_path}: {first_line(error)} "
            "Expected a PEFT folder trained on this very base model."
        ) from error
    if loaded is None:
        raise ModelError(f"{adapter}: a {kind} adapter; only LoRA adapters can be attributed to.")
    expected = set(get_peft_model_state_dict(loaded, save_embedding_layers=False))
    unfit = (expected - stored) | {key for key in stored - expected if "lora_" in key}
    if unfit:
        raise ModelError(
            f"{adapter}: does not fit {model.config.name_or_path}: only one of the two has {some_of(unfit)}. "
            "Expected an adapter trained on this very base model."
        )
    parts = {
        name: (
            layer.lora_A["default"].weight.detach(),
            layer.lora_B["default"].weight.detach(),
            layer.scaling["default"],
        )
        for name, layer in loaded.base_model.model.named_modules()
        if getattr(layer, "lora_A", None) and not layer.use_dora.get("default")
    }
    return loaded.merge_and_unload(), parts
