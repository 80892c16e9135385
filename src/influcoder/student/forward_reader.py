"""What the forward tier reads of a text: the decoder's own output errors, by one forward pass without gradients.

decoder_error    unit mean over completion tokens of Σ_u (p_t(u) - [u = y_t]) w_u, w the output embeddings: the loss
                 gradient at the last hidden state, from which every other gradient of the example flows
decoder_loss     mean loss, its mean square, the share of losses above 3 nats, the mean probability
decoder_state    unit mean of the last hidden state over completion tokens
decoder_middle   the same of the state two thirds of the way up, which predicts a trained decoder's gradient better
"""

from collections.abc import Callable, Mapping, Sequence

import torch

from influcoder.data.examples import Example, Role
from influcoder.errors import ModelError
from influcoder.maths.arrays import Floats
from influcoder.model.attention import fast_attention
from influcoder.model.batches import Batch, in_batches
from influcoder.model.decoder import Decoder
from influcoder.model.loss import cross_entropy
from influcoder.model.precision import use_bf16

GROUPS = ("decoder_error", "decoder_loss", "decoder_state", "decoder_middle")
DEPTH = 2 / 3
"""of the middle state: the best of seven depths of SmolLM2-135M, see docs/log.md"""
TOKENS_AT_ONCE = 2048
SURPRISING = 3.0


class ForwardReader:
    """Runs a decoder forward over examples and keeps what predicts their gradients best.

    Raises:
        ModelError: the logits are not the head's product with the last hidden state alone.
    """

    def __init__(self, decoder: Decoder) -> None:
        if not decoder.has_plain_head:
            raise ModelError(
                f"{decoder.name}: its logits are not the head's product with the last hidden state alone, so the "
                "forward tier cannot compute the error there. Use the static tier."
            )
        self.decoder: Decoder = decoder
        self.bf16 = use_bf16("auto", decoder.device)
        self._head = decoder.model.get_output_embeddings().weight.detach()

    def read(self, examples: Sequence[Example], role: Role = "pool") -> dict[str, Floats]:
        """(n, width) features by group, the same for both roles; zeros for an example without a completion token."""
        width = self._head.shape[1]
        widths = dict(zip(GROUPS, (width, 4, width, width), strict=True))
        return read_groups(self.decoder, examples, widths, self._of)

    @torch.no_grad()
    def _of(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        device = self.decoder.device
        with fast_attention(self.decoder.model), torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            output = self.decoder.model.base_model(input_ids=batch.ids, use_cache=False, output_hidden_states=True)
            states = output.last_hidden_state[batch.rows, batch.columns]
            layer = round(DEPTH * (len(output.hidden_states) - 1))
            middle = output.hidden_states[layer][batch.rows, batch.columns]
            logits = states @ self._head.T
        losses, error, _ = cross_entropy(logits.float(), batch.targets)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            delta = error @ self._head
        statistics = torch.stack([losses, losses.square(), (losses > SURPRISING).float(), (-losses).exp()], dim=1)
        error, loss, *hidden = (
            mean_by_example(batch, values.float()) for values in (delta, statistics, states, middle)
        )
        return unit(error), loss, *map(unit, hidden)


def read_groups(
    decoder: Decoder,
    examples: Sequence[Example],
    widths: Mapping[str, int],
    of_batch: Callable[[Batch], Sequence[torch.Tensor]],
) -> dict[str, Floats]:
    """(n, width) features by group, as `of_batch` gives them; zeros for an example without a completion token."""
    features = {name: torch.zeros(len(examples), width) for name, width in widths.items()}

    def work(batch: Batch) -> None:
        for group, part in zip(features.values(), of_batch(batch), strict=True):
            group[batch.places] = part.cpu()

    in_batches(decoder.tokenise(examples), TOKENS_AT_ONCE, decoder.device, work)
    return {name: group.numpy() for name, group in features.items()}


def mean_by_example(batch: Batch, values: torch.Tensor) -> torch.Tensor:
    """(n, width) means of (K, width) values of completion tokens, each weighed as its loss is."""
    total: torch.Tensor = torch.zeros(len(batch.places), values.shape[1], device=values.device)
    return total.index_add_(0, batch.rows, values * batch.weights[:, None])


def unit(rows: torch.Tensor) -> torch.Tensor:
    """Rows of length 1; zeros stay."""
    return torch.nn.functional.normalize(rows, dim=1)
