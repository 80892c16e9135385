"""The products of tokens with a model's weights, observed while the model runs.

A linear layer multiplies its input x with its weight. Whatever does it (the module itself, code that takes another
module's weight, a loop over experts that are stored as one tensor), the weight takes part. So weights are watched,
not modules: inside `watching`, the model holds them as tensors that report each product, its input and its output,
and whatever else is done with them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

UNTOUCHED = {"to", "type", "type_as", "float", "half", "bfloat16", "double", "contiguous", "clone", "detach", "data"}
"""what gives the same numbers in the same places"""
ARRANGED = {"t", "T", "mT", "transpose", "swapaxes", "permute", "view", "reshape", "flatten", "unflatten", "squeeze"}
ARRANGED |= {"unsqueeze", "getitem", "select", "narrow", "chunk", "split", "tensor_split", "unbind"}
"""what gives some of the numbers in other places"""
ELEMENT_BY_ELEMENT = {"add", "sub", "mul", "div", "pow", "neg", "exp", "log", "abs", "square", "sqrt", "rsqrt"}
ELEMENT_BY_ELEMENT |= {"sigmoid", "tanh", "softmax", "softplus", "silu", "relu", "clamp", "where", "embedding"}
ELEMENT_BY_ELEMENT |= {"layer_norm", "rms_norm", "normalize", "norm", "sum", "mean", "expand", "repeat", "cat"}
ELEMENT_BY_ELEMENT |= {"stack", "pad"}
"""what makes no linear layer of a weight, as long as no product follows"""
CONVOLUTIONS = {"conv1d", "conv2d", "conv3d"}
REVERSED = {"rmul": "mul", "radd": "add", "rsub": "sub", "truediv": "div", "rtruediv": "div", "rpow": "pow"}


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter, by its place in a model; `shared` are its other places, if it has several."""

    module: nn.Module
    name: str
    shared: tuple[tuple[nn.Module, str], ...] = ()

    @property
    def tensor(self) -> Tensor:
        """The parameter itself."""
        parameter = self.module._parameters[self.name]
        assert parameter is not None
        return parameter

    def put(self, tensor: Tensor) -> None:
        """Put another tensor in its place."""
        for module, name in ((self.module, self.name), *self.shared):
            module._parameters[name] = tensor  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class Block:
    """A matrix that tokens are multiplied with: a parameter, or one of the equal parts that it consists of.

    Attributes:
        weight: the parameter.
        number: which of its parts; there are `count`.
        inputs, outputs: how many numbers it reads and gives.
        outputs_first: whether it is stored as (outputs, inputs), like nn.Linear's, or the other way round.
    """

    weight: Weight
    number: int
    count: int
    inputs: int
    outputs: int
    outputs_first: bool

    def of(self, tensor: Tensor) -> Tensor:
        """Its (inputs, outputs) part of a tensor with the layout of the parameter."""
        part = tensor.reshape(self.count, -1)[self.number]
        return part.view(self.outputs, self.inputs).T if self.outputs_first else part.view(self.inputs, self.outputs)


OnProduct = Callable[[Sequence[Block], Tensor, Tensor], Tensor]
"""(blocks, x, output) -> the output to go on with; of several blocks, x[i] and output[i] are the i-th block's"""
OnOtherUse = Callable[[Weight, str, bool], None]
"""(weight, the operation, whether that is element by element)"""


@contextmanager
def watching(weights: Mapping[Weight, Tensor], on_product: OnProduct, on_other_use: OnOtherUse) -> Iterator[None]:
    """Inside, some weights report what is done with them.

    Args:
        weights: the numbers that the model uses for each weight: its own, or the same in another type.
        on_product: called for each product.
        on_other_use: called for everything else.
    """
    parameters = {weight: weight.tensor for weight in weights}
    try:
        for weight, numbers in weights.items():
            watch = _Watch(weight, parameters[weight].detach(), on_product, on_other_use)
            weight.put(_Watched.of(numbers.detach(), watch))
        yield
    finally:
        for weight, parameter in parameters.items():
            weight.put(parameter)


@dataclass(frozen=True, slots=True)
class _Watch:
    weight: Weight
    whole: Tensor
    on_product: OnProduct
    on_other_use: OnOtherUse

    def block(self, part: Tensor | None, reads: int) -> Block | None:
        """The block that a 2-D part is, with `reads` the dimension of its inputs; None if it is not a block."""
        storage = self.whole.untyped_storage().data_ptr()
        if part is None or part.ndim != 2 or part.untyped_storage().data_ptr() != storage:
            return None
        size, offset = part.numel(), part.storage_offset() - self.whole.storage_offset()
        rows, columns = part.shape
        if part.stride() not in ((columns, 1), (1, rows)) or self.whole.numel() % size or offset % size:
            return None
        return Block(
            self.weight,
            number=offset // size,
            count=self.whole.numel() // size,
            inputs=part.shape[reads],
            outputs=part.shape[1 - reads],
            outputs_first=(part.stride() == (columns, 1)) == (reads == 1),
        )


class _Watched(Tensor):
    """A weight, or a tensor made from it by arranging and rounding its numbers."""

    watch: _Watch
    part: Tensor | None
    """the same part of the parameter itself; None where the numbers differ"""
    whole_block: list[Block]
    """the block of a whole matrix, as a linear layer multiplies it; empty if it is not a block"""

    @classmethod
    def of(cls, numbers: Tensor, watch: _Watch, part: Tensor | None = None, *, same: bool = True) -> "_Watched":
        watched: _Watched = torch.Tensor._make_subclass(cls, numbers)
        watched.watch = watch
        watched.part = (watch.whole if part is None else part) if same else None
        watched.whole_block = []
        if part is None and same and (block := watch.block(watch.whole, 1)):
            watched.whole_block = [block]
        return watched

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Iterable[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is linear and not kwargs and type(args[1]) is cls and args[1].whole_block and type(args[0]) is not cls:
            with torch._C.DisableTorchFunctionSubclass():
                _report_bias(args[2:], args[1])
                return args[1].watch.on_product(args[1].whole_block, args[0], linear(*args))
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():  # type: ignore[no-untyped-call]
            result = func(*args, **kwargs)
            name = _name(func)
            watched = [tensor for tensor in _tensors([*args, *kwargs.values()]) if isinstance(tensor, cls)]
            if not list(_tensors([result])):
                return result
            if name in UNTOUCHED | ARRANGED and watched == [args[0]]:
                return _watched_result(func, name, result, args, kwargs)
            if (product := _product(name, args, kwargs)) is not None:
                x, weight, blocks = product
                _report_bias([*args, *kwargs.values()], weight)
                return weight.watch.on_product(blocks, x, result)
            return _other_use(name, result, watched, args, kwargs)


def _watched_result(func: Any, name: str, result: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The result of rounding or arranging a watched tensor, watched as well."""
    first: _Watched = args[0]
    part = first.part
    if name in ARRANGED and part is not None:
        part = func(part, *args[1:], **kwargs)
    if isinstance(result, Tensor):
        return _Watched.of(result, first.watch, part, same=part is not None)
    parts = [None] * len(result) if part is None else part
    return type(result)(
        _Watched.of(numbers, first.watch, part, same=part is not None)
        for numbers, part in zip(result, parts, strict=True)
    )


def _product(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, _Watched, list[Block]] | None:
    """The input, weight and blocks of a product that is understood."""
    match name, args:
        case "linear", (x, weight, *_) if isinstance(weight, _Watched):
            reads = 1
        case "matmul" | "mm" | "bmm", (x, weight) if isinstance(weight, _Watched) and not kwargs:
            reads = 0
        case "addmm" | "baddbmm", (_, x, weight) if isinstance(weight, _Watched) and not kwargs:
            reads = 0
        case _:
            return None
    if isinstance(x, _Watched) or weight.part is None:
        return None
    if weight.ndim == 2:
        parts = [weight.part]
    elif weight.ndim == x.ndim == 3 and len(weight) == len(x) and name != "linear":
        parts = list(weight.part)
    else:
        return None
    blocks = [weight.watch.block(part, reads) for part in parts]
    known = [block for block in blocks if block is not None]
    return (x, weight, known) if len(known) == len(blocks) else None


def _report_bias(values: Iterable[Any], weight: "_Watched") -> None:
    """What takes part in a product besides input and weight is a bias."""
    for value in values:
        if isinstance(value, _Watched) and value is not weight:
            value.watch.on_other_use(value.watch.weight, "add", True)


def _other_use(
    name: str, result: Any, watched: Sequence[_Watched], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    """Report another operation; if no token takes part in it yet, watch its result instead."""
    tensors = _tensors([*args, *kwargs.values()])
    has_tokens = any(tensor.requires_grad for tensor in tensors if not isinstance(tensor, _Watched))
    if name in ELEMENT_BY_ELEMENT and isinstance(result, Tensor) and not has_tokens:
        return _Watched.of(result, watched[0].watch, same=False)
    harmless = name in ELEMENT_BY_ELEMENT or (name in CONVOLUTIONS and _is_depthwise(watched[0], args, kwargs))
    for tensor in watched:
        tensor.watch.on_other_use(tensor.watch.weight, name, harmless)
    return result


def _is_depthwise(weight: Tensor, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    groups = kwargs.get("groups", args[6] if len(args) > 6 else 1)
    return bool(groups == weight.shape[0] and weight.shape[1] == 1)


def _name(func: Any) -> str:
    name = str(func.__self__.__name__ if func.__name__ == "__get__" else func.__name__).strip("_")
    return REVERSED.get(name, name)


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
