"""The linear layers of a model: the matrices that it multiplies tokens with, and their inputs and outputs."""

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
"""(numbers of the layers, x, output) -> the output to go on with; of several layers, x[i] is the i-th layer's"""


def linear_layers(model: Any, modules: str | None = None) -> dict[str, Layer]:
    """The linear layers of a model by name, in its order, without the output head.

    A linear layer is a matrix that tokens are multiplied with, whatever its module is called: it is found by running
    the model on a few tokens. Experts that are stored as one tensor are separate layers: `mlp.experts.down_proj[3]`.

    Args:
        modules: patterns of names, as of `Chosen`.

    Raises:
        ModelError: there are none, or weights are used in a way whose gradient is not understood; the message holds
            the pattern that leaves them out.
    """
    chosen, candidates = Chosen(modules), matrices(model)
    selected = {name: matrix for name, matrix in candidates.items() if name in chosen}
    uses = uses_of(model, selected)
    layers: dict[str, Layer] = {}
    for name, matrix in selected.items():
        module = _module(matrix)
        plain = isinstance(module, nn.Linear | Conv1D)
        if name in uses.called or (name in uses.unused and plain):
            layers[name] = module  # of the unused: text like this does not reach it, other text may
        for block in uses.blocks.get(name, ()):
            if plain and block.count == 1 and not block.weight.shared:
                layers[name] = module
            else:
                layers[_block_name(name, block)] = block
    if uses.else_used:
        remedy = leaving_out(uses.else_used, layers, modules)
        name, use = next(iter(uses.else_used.items()))
        rest = f", and so are {len(uses.else_used) - 1} more" if len(uses.else_used) > 1 else ""
        raise ModelError(
            f"layer {name} {use}, where its per-example gradient is not understood{rest}. Refused rather than "
            + (
                f"silently left out; leave them out by name: {remedy}"
                if layers
                else "left out: no other layer is left."
            )
        )
    if not layers:
        raise ModelError(
            "the model has no linear layer to take gradients of."
            if modules is None or not candidates
            else f"no linear layer's name matches --modules {modules!r}; names look like {next(iter(candidates))!r}."
        )
    return layers


def matrices(model: Any) -> dict[str, Weight | nn.Module]:
    """What may be a linear layer, by name: parameters with rows and columns, and modules that pack theirs.

    A parameter that several modules share stands once, by its first name; head and embeddings are left out.
    """
    head, table = model.get_output_embeddings(), model.get_input_embeddings()
    taken = {id(module.weight) for module in (head, table) if module is not None}
    places: dict[int, list[tuple[str, nn.Module, str]]] = {}
    for name, module in model.named_modules():
        if module is head or module is table or isinstance(module, nn.Embedding):
            continue
        if is_packed(module):
            places[id(module)] = [(name, module, "")]
            continue
        for key, parameter in module._parameters.items():
            if parameter is not None and parameter.ndim >= 2 and id(parameter) not in taken:
                full_name = name if key == "weight" else f"{name}.{key}"
                places.setdefault(id(parameter), []).append((full_name, module, key))
    return {
        name: Weight(module, key, tuple(place[1:] for place in shared)) if key else module
        for (name, module, key), *shared in places.values()
    }


def name_of(model: Any, layer: Layer) -> str:
    """A layer's name in a model."""
    if not isinstance(layer, Block):
        return next(name for name, matrix in matrices(model).items() if _module(matrix) is layer)
    return _block_name(next(name for name, matrix in matrices(model).items() if matrix == layer.weight), layer)


def _block_name(name: str, block: Block) -> str:
    return name if block.count == 1 else f"{name}[{block.number}]"


def weight_of(layer: Layer) -> Weight:
    """The parameter that a layer is, or is a part of."""
    return layer.weight if isinstance(layer, Block) else Weight(layer, "weight")


def of_layer(layer: Layer, tensor: Tensor) -> Tensor:
    """A layer's (inputs, outputs) part of a tensor with the layout of its parameter."""
    if isinstance(layer, Block):
        return layer.of(tensor)
    return tensor if isinstance(layer, Conv1D) else tensor.T


def is_packed(module: Layer) -> bool:
    """Whether a linear layer holds its weights in another form than numbers: 4 bits, or another library's tensors."""
    if isinstance(module, Block):
        return False
    if type(module).__name__ in QUANTISED:
        return True
    tensors = (*module._parameters.values(), *module._buffers.values())
    tables = [tensor for tensor in tensors if tensor is not None and tensor.ndim > 1]
    plain = any(table.is_floating_point() and type(table) in (Tensor, nn.Parameter) for table in tables)
    is_linear = all(isinstance(getattr(module, side, None), int) for side in ("in_features", "out_features"))
    return is_linear and bool(tables) and not plain


def _module(matrix: Weight | nn.Module) -> nn.Module:
    return matrix.module if isinstance(matrix, Weight) else matrix


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
    other_use: Callable[[int, str], None],
    numbers: Mapping[Weight, Tensor] | None = None,
) -> Iterator[None]:
    """Inside, `product` is called for each product of some layers.

    Args:
        other_use: called with the number of a layer that is used in another way, and with that way.
        numbers: of weights that the model is to use in another type.
    """
    packed = {number: layer for number, layer in enumerate(layers) if is_packed(layer)}
    places = {
        (weight_of(layer), layer.number if isinstance(layer, Block) else 0): number
        for number, layer in enumerate(layers)
        if number not in packed
    }

    def multiplied(blocks: Sequence[Block], x: Tensor, output: Tensor) -> Tensor:
        layer_numbers = [places.get((block.weight, block.number)) for block in blocks]
        for number, block in zip(layer_numbers, blocks, strict=True):
            if number is None:
                continue
            if (block.inputs, block.outputs) != (inputs(layers[number]), outputs(layers[number])):
                other_use(number, "is multiplied in other parts than on the first tokens")
        return product(layer_numbers, x, output)

    def used(weight: Weight, operation: str, harmless: bool) -> None:
        number = next((number for (known, _), number in places.items() if known == weight), None)
        if number is not None and not harmless:
            other_use(number, f"is used in {operation!r}, where its gradient is not understood")

    def called(number: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        return lambda module, inputs, output: product([number], inputs[0], output)

    weights = dict.fromkeys(weight for weight, _ in places)
    with ExitStack() as stack:
        for number, module in packed.items():
            stack.callback(module.register_forward_hook(called(number)).remove)  # type: ignore[union-attr]
        chosen = {weight: (numbers or {}).get(weight, weight.tensor) for weight in weights}
        stack.enter_context(watching(chosen, multiplied, used))
        yield
