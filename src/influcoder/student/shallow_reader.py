"""What a student reads of a text by running the first layers of the decoder only: no head, no loss, no gradient.

shallow_state    unit mean over completion tokens of the state that would predict them
shallow_text     unit mean of the state over all tokens that are read
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from influcoder.data.examples import Example, Role
from influcoder.errors import ModelError
from influcoder.maths.arrays import Floats
from influcoder.model.attention import fast_attention
from influcoder.model.batches import Batch
from influcoder.model.decoder import Decoder
from influcoder.model.precision import use_bf16
from influcoder.student.forward_reader import mean_by_example, read_groups, unit

GROUPS = ("shallow_state", "shallow_text")
OTHERS = "Distill with --recipe static, forward or short."


class ShallowReader:
    """Runs the first layers of a decoder over examples.

    Args:
        decoder: it reads as many tokens as it is asked to (`Decoder.shortened`).
        depth: share of its layers, above 0 and at most 1.

    Raises:
        ModelError: the decoder's layers are not found, so that they cannot be run in part.
    """

    def __init__(self, decoder: Decoder, depth: float) -> None:
        self.decoder = decoder
        layers = _layers(decoder)
        self._last = layers[max(1, round(depth * len(layers))) - 1]
        self.bf16 = use_bf16("auto", decoder.device)

    def read(self, examples: Sequence[Example], role: Role = "pool") -> dict[str, Floats]:
        """(n, width) features by group, the same for both roles; zeros for an example without a completion token."""
        width = self.decoder.model.config.get_text_config().hidden_size
        return read_groups(self.decoder, examples, dict.fromkeys(GROUPS, width), self._of)

    @torch.no_grad()
    def _of(self, batch: Batch) -> tuple[Tensor, Tensor]:
        states = self._states(batch).float()
        is_text = torch.arange(states.shape[1], device=states.device) < batch.lengths[:, None]
        text = torch.where(is_text[:, :, None], states, 0).sum(dim=1)
        return unit(mean_by_example(batch, states[batch.rows, batch.columns])), unit(text)

    def _states(self, batch: Batch) -> Tensor:
        """(n, T, width) after the last of the layers that are run; the pass ends there."""

        def stop(layer: nn.Module, inputs: Any, output: Any) -> None:
            raise _Reached(output if isinstance(output, Tensor) else output[0])

        model, device = self.decoder.model, self.decoder.device.type
        handle = self._last.register_forward_hook(stop)
        try:
            with fast_attention(model), torch.autocast(device, torch.bfloat16, enabled=self.bf16):
                model.base_model(input_ids=batch.ids, use_cache=False)
        except _Reached as reached:
            states = reached.states
        else:
            raise ModelError(f"{self.decoder.name}: its layers are not run one after the other. {OTHERS}")
        finally:
            handle.remove()
        if states.shape[:-1] != batch.ids.shape:
            raise ModelError(f"{self.decoder.name}: its layers do not give one state a token. {OTHERS}")
        return states


class _Reached(Exception):
    """The pass has reached the last layer that is wanted."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.states = states


def _layers(decoder: Decoder) -> nn.ModuleList:
    """The decoder's layers, in the order in which they are run."""
    count = decoder.model.config.get_text_config().num_hidden_layers
    for module in decoder.model.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise ModelError(f"{decoder.name}: no list of its {count} layers, so they cannot be run in part. {OTHERS}")
