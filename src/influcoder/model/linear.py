"""The linear layers of a model: the matrices that it multiplies tokens with, and what goes in and out of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from influcoder.errors import ModelError
from influcoder.model.names import Chosen, leaving_out
from influcoder.model.products import Block, Weight, watching
from influcoder.model.uses import uses_of

Layer = nn.Module | Block
"""a module that multiplies with its own weight, or the block of a weight that others multiply with"""

QUANTISED = {"Linear4bit", "Linear8bitLt"}
"""bitsandbytes' layers: their weights are never read here, only what goes in and what comes back"""

Product = Callable[[Sequence[int | None], Tensor, Tensor], Tensor]
"""(the numbers of the layers, x, output) -> the output to go on with; of several layers, x[i] is the i-th's"""


def linear_layers(model: Any, modules: str | None = None) -> dict[str, Layer]:
    """The linear layers of a model by name, in its order, the output head left out.

    A linear layer is a matrix that tokens are multiplied with, whatever its module is called: the model is run on a
    few tokens to see. Experts that are stored as one tensor are layers of their own, as `mlp.experts.down_proj[3]`.

    Args:
        modules: patterns of names, as of `Chosen`.

    Raises:
        ModelError: none, or weights that are used in a way whose gradient is not understood; the message holds the
            pattern that leaves them out.
    """
    chosen, candidates = Chosen(modules), matrices(model)
    looked_at = {name: one for name, one in candidates.items() if name in chosen}
    uses = uses_of(model, looked_at)
    found: dict[str, Layer] = {}
    for name, one in looked_at.items():
        module = _module(one)
        if name in uses.called or (name in uses.unused and isinstance(module, nn.Linear | Conv1D)):
            found[name] = module  # of the unused: text like this does not reach it, other text may
        for block in uses.blocks.get(name, ()):
            if isinstance(module, nn.Linear | Conv1D) and block.count == 1 and not block.weight.shared:
                found[name] = module
            else:
                found[name if block.count == 1 else f"{name}[{block.number}]"] = block
    if uses.else_used:
        remedy = leaving_out(uses.else_used, found, modules)
        name, what = next(iter(uses.else_used.items()))
        rest = f", and so are {len(uses.else_used) - 1} more" if len(uses.else_used) > 1 else ""
        raise ModelError(
            f"layer {name} {what}, where its per-example gradient is not understood{rest}. Refused rather than "
            + (f"silently left out; leave them out by name: {remedy}" if found else "left out: no other layer is left.")
        )
    if not found:
        raise ModelError(
            "the model has no linear layer to take gradients of."
            if modules is None or not candidates
            else f"no linear layer's name matches --modules {modules!r}; names look like {next(iter(candidates))!r}."
        )
    return found


def matrices(model: Any) -> dict[str, Weight | nn.Module]:
    """What may be a linear layer, by name: parameters with rows and columns, and modules that pack theirs.

    A parameter that several modules share is one, by its first name; head and embeddings are none.
    """
    head, table = model.get_output_embeddings(), model.get_input_embeddings()
    taken = {id(one.weight) for one in (head, table) if one is not None}
    places: dict[int, list[tuple[str, nn.Module, str]]] = {}
    for name, module in model.named_modules():
        if module is head or module is table or isinstance(module, nn.Embedding):
            continue
        if is_packed(module):
            places[id(module)] = [(name, module, "")]
            continue
        for own, parameter in module._parameters.items():
            if parameter is not None and parameter.ndim >= 2 and id(parameter) not in taken:
                full = name if own == "weight" else f"{name}.{own}"
                places.setdefault(id(parameter), []).append((full, module, own))
    return {
        name: Weight(module, own, tuple(other[1:] for other in others)) if own else module
        for (name, module, own), *others in places.values()
    }


def name_of(model: Any, layer: Layer) -> str:
    """A layer's name in a model."""
    if not isinstance(layer, Block):
        return next(name for name, one in matrices(model).items() if _module(one) is layer)
    name = next(name for name, one in matrices(model).items() if one == layer.weight)
    return name if layer.count == 1 else f"{name}[{layer.number}]"


def weight_of(layer: Layer) -> Weight:
    """The parameter that a layer is, or is a part of."""
    return layer.weight if isinstance(layer, Block) else Weight(layer, "weight")


def of_layer(layer: Layer, tensor: Tensor) -> Tensor:
    """A layer's (inputs, outputs) part of a tensor that is laid out as its parameter."""
    if isinstance(layer, Block):
        return layer.of(tensor)
    return tensor if isinstance(layer, Conv1D) else tensor.T


def is_packed(module: Layer) -> bool:
    """Whether a linear layer holds its weights in another form than numbers: 4 bits, or another library's tensors."""
    if isinstance(module, Block):
        return False
    if type(module).__name__ in QUANTISED:
        return True
    own = [one for one in (*module._parameters.values(), *module._buffers.values()) if one is not None and one.ndim > 1]
    plain = [one for one in own if one.is_floating_point() and type(one) in (Tensor, nn.Parameter)]
    return all(isinstance(getattr(module, side, None), int) for side in ("in_features", "out_features")) and (
        bool(own) and not plain
    )


def _module(one: Weight | nn.Module) -> nn.Module:
    return one.module if isinstance(one, Weight) else one


def inputs(layer: Layer) -> int:
    """How many numbers a linear layer reads."""
    if isinstance(layer, Block):
        return layer.inputs
    return int(layer.nx if isinstance(layer, Conv1D) else layer.in_features)  # type: ignore[arg-type]


def outputs(layer: Layer) -> int:
    """How many numbers a linear layer gives."""
    if isinstance(layer, Block):
        return layer.outputs
    return int(layer.nf if isinstance(layer, Conv1D) else layer.out_features)  # type: ignore[arg-type]


@contextmanager
def watching_layers(
    layers: Sequence[Layer],
    product: Product,
    other: Callable[[int, str], None],
    numbers: Mapping[Weight, Tensor] | None = None,
) -> Iterator[None]:
    """Inside, `product` is told of each product of some layers.

    Args:
        other: told of a layer, by its number, that is used in another way, and of the way.
        numbers: of weights that stand in another type.
    """
    packed = {number: one for number, one in enumerate(layers) if is_packed(one)}
    places = {
        (weight_of(one), one.number if isinstance(one, Block) else 0): number
        for number, one in enumerate(layers)
        if number not in packed
    }

    def see(blocks: Sequence[Block], x: Tensor, output: Tensor) -> Tensor:
        found = [places.get((block.weight, block.number)) for block in blocks]
        for number, block in zip(found, blocks, strict=True):
            if number is not None and (block.inputs, block.outputs) != (
                inputs(layers[number]),
                outputs(layers[number]),
            ):
                other(number, "is multiplied in other parts than on the first tokens")
        return product(found, x, output)

    def used(weight: Weight, what: str, harmless: bool) -> None:
        number = next((number for (one, _), number in places.items() if one == weight), None)
        if number is not None and not harmless:
            other(number, f"is used in {what!r}, where its gradient is not understood")

    def called(number: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        return lambda module, inputs, output: product([number], inputs[0], output)

    weights = dict.fromkeys(weight for weight, _ in places)
    with ExitStack() as stack:
        for number, module in packed.items():
            stack.callback(module.register_forward_hook(called(number)).remove)  # type: ignore[union-attr]
        stack.enter_context(watching({one: (numbers or {}).get(one, one.tensor) for one in weights}, see, used))
        yield
