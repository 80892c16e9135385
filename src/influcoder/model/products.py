"""The products of tokens with a model's weights, seen from inside.

A linear layer multiplies its input x with its weight. Whoever does it (the module itself, code that takes another
module's weight, a loop over experts that are stored as one tensor), the weight takes part. So weights are watched,
not modules: inside `watching`, they stand in the model as tensors that report each product, its input and its
output, and whatever else is done with them.
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
ELEMENT_BY_ELEMENT = {
    "add",
    "sub",
    "mul",
    "div",
    "pow",
    "neg",
    "exp",
    "log",
    "abs",
    "square",
    "sqrt",
    "rsqrt",
    "sigmoid",
}
ELEMENT_BY_ELEMENT |= {"tanh", "softmax", "softplus", "silu", "relu", "clamp", "where", "embedding", "layer_norm"}
ELEMENT_BY_ELEMENT |= {"rms_norm", "normalize", "norm", "sum", "mean", "expand", "repeat", "cat", "stack", "pad"}
"""what makes no linear layer of a weight, as long as no product follows"""
CONVOLUTIONS = {"conv1d", "conv2d", "conv3d"}
REVERSED = {"rmul": "mul", "radd": "add", "rsub": "sub", "truediv": "div", "rtruediv": "div", "rpow": "pow"}


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter, by where it stands in a model; `shared` are the other places, where it stands in several."""

    module: nn.Module
    name: str
    shared: tuple[tuple[nn.Module, str], ...] = ()

    @property
    def tensor(self) -> Tensor:
        """The parameter itself."""
        found = self.module._parameters[self.name]
        assert found is not None
        return found

    def put(self, tensor: Tensor) -> None:
        """Have another tensor stand there."""
        for module, name in ((self.module, self.name), *self.shared):
            module._parameters[name] = tensor  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class Block:
    """A matrix that tokens are multiplied with: a parameter, or one of the equal parts that it consists of.

    Attributes:
        weight: the parameter.
        number: which of its parts; `count` in all.
        inputs, outputs: how many numbers it reads and gives.
        outputs_first: whether it is stored as (outputs, inputs), as of nn.Linear, or the other way round.
    """

    weight: Weight
    number: int
    count: int
    inputs: int
    outputs: int
    outputs_first: bool

    def of(self, tensor: Tensor) -> Tensor:
        """Its (inputs, outputs) part of a tensor that is laid out as the parameter."""
        part = tensor.reshape(self.count, -1)[self.number]
        return part.view(self.outputs, self.inputs).T if self.outputs_first else part.view(self.inputs, self.outputs)


See = Callable[[Sequence[Block], Tensor, Tensor], Tensor]
"""(blocks, x, output) -> the output to go on with; of several blocks, x[i] and output[i] are the i-th's"""
Other = Callable[[Weight, str, bool], None]
"""(weight, what is done with it, whether that is element by element)"""


@contextmanager
def watching(weights: Mapping[Weight, Tensor], see: See, other: Other) -> Iterator[None]:
    """Inside, some weights report what is done with them.

    Args:
        weights: the numbers to go on with, a weight: its own, or the same in another type.
        see: called for each product.
        other: called for everything else.
    """
    usual = {weight: weight.tensor for weight in weights}
    try:
        for weight, numbers in weights.items():
            watched = _Watched.of(numbers.detach(), _Watch(weight, usual[weight].detach(), see, other))
            weight.put(watched)
        yield
    finally:
        for weight, parameter in usual.items():
            weight.put(parameter)


@dataclass(frozen=True, slots=True)
class _Watch:
    weight: Weight
    whole: Tensor
    see: See
    other: Other

    def block(self, part: Tensor | None, reads: int) -> Block | None:
        """The block that a 2-D part is, whose dimension `reads` meets the input; None if it is no such part."""
        if part is None or part.ndim != 2 or part.untyped_storage().data_ptr() != self._storage:
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

    @property
    def _storage(self) -> int:
        return self.whole.untyped_storage().data_ptr()


class _Watched(Tensor):
    """A weight, or what was made of it by arranging and rounding its numbers."""

    watch: _Watch
    part: Tensor | None
    """the same part of the parameter itself; None where the numbers are others"""
    whole_block: list[Block]
    """the one block of a whole matrix, as a linear layer multiplies it"""

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
                _added(args[2:], args[1])
                return args[1].watch.see(args[1].whole_block, args[0], linear(*args))
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():  # type: ignore[no-untyped-call]
            result = func(*args, **kwargs)
            name = _name(func)
            watched = [one for one in _tensors([*args, *kwargs.values()]) if isinstance(one, cls)]
            if not list(_tensors([result])):
                return result
            if name in UNTOUCHED | ARRANGED and watched == [args[0]]:
                return _passed_on(func, name, result, args, kwargs)
            if (found := _product(name, args, kwargs)) is not None:
                x, weight, blocks = found
                _added([*args, *kwargs.values()], weight)
                return weight.watch.see(blocks, x, result)
            return _used(name, result, watched, args, kwargs)


def _passed_on(func: Any, name: str, result: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What was rounded or arranged is watched as well."""
    first: _Watched = args[0]
    part = first.part
    if name in ARRANGED and part is not None:
        part = func(part, *args[1:], **kwargs)
    if isinstance(result, Tensor):
        return _Watched.of(result, first.watch, part, same=part is not None)
    parts = [None] * len(result) if part is None else part
    return type(result)(
        _Watched.of(one, first.watch, other, same=other is not None) for one, other in zip(result, parts, strict=True)
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


def _added(values: Iterable[Any], weight: "_Watched") -> None:
    """What takes part in a product besides input and weight is a bias."""
    for one in values:
        if isinstance(one, _Watched) and one is not weight:
            one.watch.other(one.watch.weight, "add", True)


def _used(name: str, result: Any, watched: Sequence[_Watched], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Something else is done: it is told, or what comes of it watched on where no token has a part in it yet."""
    plain = [one for one in _tensors([*args, *kwargs.values()]) if not isinstance(one, _Watched)]
    alone = not any(one.requires_grad for one in plain)
    harmless = name in ELEMENT_BY_ELEMENT or (name in CONVOLUTIONS and _one_a_channel(watched[0], args, kwargs))
    if harmless and alone and isinstance(result, Tensor) and name in ELEMENT_BY_ELEMENT:
        return _Watched.of(result, watched[0].watch, same=False)
    for one in watched:
        one.watch.other(one.watch.weight, name, harmless)
    return result


def _one_a_channel(weight: Tensor, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
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
