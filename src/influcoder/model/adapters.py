"""Adapters: merged into their base and compared with the unmerged model; LoRA's A and B are kept for their gradients.

A merge can go wrong silently: a table that input and output share gets what was meant for one of them. So weights
that are shared are copied first, and every merge is checked: on some rows, the merged model's logits must be those of
the unmerged model.
"""

import logging
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from influcoder.errors import ModelError, first_line, some_of
from influcoder.model.adapter_folder import AdapterFolder

logger = logging.getLogger("influcoder")

Adapter = dict[str, tuple[Tensor, Tensor, float]]
"""A, B and scale by layer name; only of plain LoRA layers, where the adapter adds s · B A and nothing else"""

WORST_MERGE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""the most that merging may change the logits, as a share of their length; 1e-6, 2e-3 and 2e-2 are usual"""
PROBE_ROWS, PROBE_TOKENS = 2, 32


@dataclass(frozen=True, slots=True)
class MergedAdapter:
    """What is known of an adapter once it is merged.

    Attributes:
        kind: "LoRA", "DoRA", "IA3" ...
        layers: its A and B, for views of their gradients.
        trained: shape of every parameter that training changed, by plain name, in the order of its optimizer.
    """

    kind: str
    layers: Adapter
    trained: dict[str, tuple[int, ...]]


@torch.no_grad()
def with_adapter(model: PreTrainedModel, adapter: AdapterFolder) -> tuple[PreTrainedModel, MergedAdapter]:
    """A model with an adapter merged into it.

    Raises:
        ModelError: the adapter does not load, belongs to another base, or cannot be merged without changing the logits.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what PEFT warns of is checked here
        before, loaded, rows = _attached(model, adapter)
        trained = {plain_name(key): tuple(p.shape) for key, p in loaded.named_parameters() if p.requires_grad}
        layers = _plain_layers(loaded)
        expected = _logits(loaded, rows)
        merged = _merged(loaded, adapter)
    _check_logits(_logits(merged, rows), expected, before, adapter, merged)
    return merged, MergedAdapter(adapter.kind, layers, trained)


def plain_name(name: str) -> str:
    """A parameter's name without what PEFT and the wrappers of training put around it.

    >>> plain_name("base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight")
    'model.layers.0.self_attn.q_proj.lora_A'
    """
    for wrapper in ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."):
        name = name.replace(wrapper, "")
    name = name.removeprefix("module.").removeprefix("base_model.model.")
    layer, matrix, _ = name.partition(".lora_A." if ".lora_A." in name else ".lora_B.")
    return layer + matrix[:-1] if matrix and not name.endswith(".bias") else name


def _attached(model: PreTrainedModel, adapter: AdapterFolder) -> tuple[Tensor | None, Any, Tensor]:
    """(the model's own logits on some rows, the model with its adapter, the rows).

    The logits are None where the model has been given other tokens.
    """
    from peft import PeftModel, load_peft_weights

    try:
        stored = load_peft_weights(adapter.path, device="cpu", revision=adapter.revision)
        resized = _resized(model, stored)
        rows = _probe(model, adapter)
        before = None if resized else _logits(model, rows)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loaded = PeftModel.from_pretrained(model, adapter.path, is_trainable=True, revision=adapter.revision).eval()
    except Exception as error:  # the libraries below raise errors of every class on damaged files
        raise ModelError(
            f"{adapter.path}: does not load as an adapter of {model.config.name_or_path}: {first_line(error)} "
            "Expected a PEFT folder trained on this very base model."
        ) from error
    _refuse_unfit(loaded, stored, adapter)
    _refuse_partly_loaded(caught, adapter)
    if resized and not bool(_logits(loaded, rows).isfinite().all()):
        raise ModelError(
            f"{adapter.path}: was trained with another number of tokens than {model.config.name_or_path} has, and does "
            "not hold all of their rows. Save it again with save_embedding_layers=True, or save the merged model."
        )
    return before, loaded, rows


def _merged(loaded: Any, adapter: AdapterFolder) -> PreTrainedModel:
    try:
        _give_biases(loaded, adapter)
        _untie(loaded)
        merged: PreTrainedModel = loaded.merge_and_unload()
    except Exception as error:  # as above
        raise ModelError(
            f"{adapter.path}: this {adapter.kind} adapter cannot be merged into {loaded.config.name_or_path}: "
            f"{first_line(error)} Give one of another kind, such as LoRA, or a whole model."
        ) from error
    return merged


def _check_logits(
    logits: Tensor, expected: Tensor, before: Tensor | None, adapter: AdapterFolder, merged: PreTrainedModel
) -> None:
    error, most = _distance(logits, expected), WORST_MERGE.get(merged.dtype, WORST_MERGE[torch.bfloat16])
    if not error <= most:
        raise ModelError(
            f"{adapter.path}: merging this {adapter.kind} adapter into {merged.config.name_or_path} changes its logits "
            f"by {error:.2g} of their length (at most {most:g} expected), so gradients would be of another model. Give "
            "the base unquantised, an adapter of another kind, or a whole model."
        )
    if before is not None and 0 < _distance(before, expected) < 2 * error:
        logger.warning(
            "%s: changes the logits by %.1g of their length, and merging it in %s rounds by %.1g: much of it is lost. "
            "Load the model with dtype fp32.",
            adapter.path,
            _distance(before, expected),
            str(merged.dtype).removeprefix("torch."),
            error,
        )


def _resized(model: PreTrainedModel, stored: dict[str, Tensor]) -> bool:
    """Give the tables of tokens as many rows as the adapter's have; returns whether that changed them."""
    names = {name for name, module in model.named_modules() if module in _tables(model)}
    rows = {len(weight) for key, weight in stored.items() if weight.ndim == 2 and _table_name(key) in names}
    before = model.get_input_embeddings().num_embeddings
    if len(rows) != 1 or before in rows:
        return False
    model.resize_token_embeddings(rows.pop(), mean_resizing=False)
    for table in _tables(model):  # not a number, until what is stored fills it
        table.weight[before:] = torch.nan
    return True


def _tables(model: PreTrainedModel) -> list[Any]:
    tables = (model.get_input_embeddings(), model.get_output_embeddings())
    return [table for table in tables if table is not None]


def _table_name(key: str) -> str:
    """The name of the module whose table a stored weight is."""
    name = key.removeprefix("base_model.model.").removesuffix(".weight")
    return name.removesuffix(".original_module").removesuffix(".base_layer").removesuffix(".token_adapter")


def _refuse_partly_loaded(caught: Sequence[warnings.WarningMessage], adapter: AdapterFolder) -> None:
    """PEFT only warns of weights that it does not find under their names, and leaves their layers as they were."""
    for warning in caught:
        words = str(warning.message)
        if words.startswith("Found missing adapter keys"):
            raise ModelError(
                f"{adapter.path}: PEFT loads only a part of it, and leaves the other layers as they were: "
                f"{words.partition(': ')[2]} Save the merged model, and give that."
            )
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def _refuse_unfit(loaded: Any, stored: dict[str, Tensor], adapter: AdapterFolder) -> None:
    """Every parameter of the adapter must be stored, and every stored parameter must have been loaded."""
    from peft import get_peft_model_state_dict

    needed, known = (set(get_peft_model_state_dict(loaded, save_embedding_layers=tables)) for tables in (False, True))
    unfit = (needed - set(stored)) | (set(stored) - known)
    if unfit:
        raise ModelError(
            f"{adapter.path}: does not fit {loaded.config.name_or_path}: only one of the two has {some_of(unfit)}. "
            "Expected an adapter trained on this very base model."
        )


def _plain_layers(loaded: Any) -> Adapter:
    """A and B of the layers to which only B A is added: not those of DoRA and other variants, which differ."""
    from peft import PeftType
    from peft.tuners.lora import Linear

    if loaded.peft_config["default"].peft_type != PeftType.LORA:
        return {}
    return {
        name: (layer.lora_A["default"].weight.clone(), layer.lora_B["default"].weight.clone(), layer.scaling["default"])
        for name, layer in loaded.base_model.model.named_modules()
        if type(layer) is Linear and "default" in layer.lora_A and layer.lora_variant.get("default") is None
    }


def _give_biases(loaded: Any, adapter: AdapterFolder) -> None:
    """Give a bias of zeros to the layers without one into which a bias is to be merged."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    if not adapter.config.get("lora_bias") and adapter.config["peft_type"] != "BEFT":
        return
    for layer in loaded.modules():
        base = layer.get_base_layer() if isinstance(layer, BaseTunerLayer) else None
        if isinstance(base, nn.Linear) and base.bias is None:
            base.bias = nn.Parameter(base.weight.new_zeros(base.out_features), requires_grad=False)


def _untie(loaded: Any) -> None:
    """Copy the weights of the adapter's layers that other modules share."""
    uses = Counter(id(parameter) for module in loaded.modules() for parameter in module.parameters(recurse=False))
    for name, module in list(loaded.named_modules()):
        if name.endswith((".base_layer", ".original_module")):
            for key, parameter in list(module.named_parameters(recurse=False)):
                if uses[id(parameter)] > 1:
                    setattr(module, key, nn.Parameter(parameter.detach().clone(), requires_grad=False))


def _probe(model: PreTrainedModel, adapter: AdapterFolder) -> Tensor:
    """(rows, tokens) ids from all over the vocabulary, those that the adapter trains among them."""
    rows = model.get_input_embeddings().num_embeddings
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(rows, (PROBE_ROWS, PROBE_TOKENS), generator=generator)
    trained = adapter.config.get("trainable_token_indices") or adapter.config.get("token_indices") or []
    lists = trained.values() if isinstance(trained, dict) else [trained]
    tokens = sorted({int(token) for tokens in lists for token in tokens} | {rows - 1})[:PROBE_TOKENS]
    ids[0, : len(tokens)] = torch.tensor(tokens)
    return ids.to(model.device)


def _logits(model: Any, rows: Tensor) -> Tensor:
    logits: Tensor = model(input_ids=rows, use_cache=False).logits.float()
    return logits - logits.mean(dim=-1, keepdim=True)  # what is added to all of them changes no probability


def _distance(logits: Tensor, expected: Tensor) -> float:
    return float((logits - expected).norm() / expected.norm())
