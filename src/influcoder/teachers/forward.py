"""Teachers that run the decoder forward only: hidden states, and a gradient just before the output head.

last-state   the last token's last hidden state                     Rep-Sim (DATE-LM)
mean-state   Σ t·h_t / Σ t over all tokens                          RDS+ (Ivison et al. 2025)
head         Σ_t (Wᵀ e_t) h_tᵀ over completion tokens, e_t = p_t - onehot, W the head: the loss gradient of a linear
             layer between the last hidden state and the head, where it is the identity; sketched
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from influcoder.data.examples import Example, Role
from influcoder.errors import ModelError
from influcoder.maths.sketch import CountSketch
from influcoder.model.attention import fast_attention
from influcoder.model.batches import Batch, in_batches
from influcoder.model.decoder import Decoder
from influcoder.model.loss import cross_entropy
from influcoder.model.precision import use_bf16
from influcoder.provenance import Provenance
from influcoder.store.codes import Plain, VectorCode
from influcoder.teachers.checkpoints import Checkpoint
from influcoder.teachers.settings import TeacherSettings, refuse_no_token_shares
from influcoder.teachers.teacher import Advance, Features


class ForwardTeacher:
    """Influence by what a forward pass shows. The same for both roles; nothing is fitted.

    Args:
        decoder: the model.
        settings: whose source is "last-state", "mean-state" or "head".

    Raises:
        ModelError: the gradient of a head whose output the model changes was asked for.
    """

    needs_fitting = False
    checkpoints: Sequence[Checkpoint] = ()

    def __init__(self, decoder: Decoder, settings: TeacherSettings) -> None:
        self.decoder = decoder
        self.settings = settings
        self.bf16 = use_bf16(settings.precision, decoder.device)
        self._plain_head = decoder.has_plain_head
        if settings.source == "head" and not self._plain_head:
            raise ModelError(
                f"{decoder.name}: its logits are not the head's product with the last hidden state alone, so "
                f"{settings.name} cannot tell the gradient there. Use a teacher of gradients."
            )
        self._head = decoder.model.get_output_embeddings().weight.detach()
        width = self._head.shape[1]
        self._sketch = CountSketch([width**2], settings.width, settings.seed) if settings.width else None
        self.dim = width if settings.source != "head" else settings.width or width**2

    @property
    def code(self) -> VectorCode:
        """How features are stored."""
        return Plain(self.dim)

    @property
    def provenance(self) -> Provenance:
        """Everything that changes the features."""
        return Provenance(teacher=self.settings.record(bf16=self.bf16), decoder=self.decoder.fingerprint)

    def fit(self, pool: Sequence[Example], queries: Sequence[Example]) -> None:
        """Nothing to learn."""

    def state(self) -> dict[str, Tensor]:
        """Nothing was learnt."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Nothing to take over."""

    @torch.no_grad()
    def features(self, examples: Sequence[Example], role: Role, advance: Advance | None = None) -> Features:
        """Features of each example, in order."""
        tokens = self.decoder.tokenise(examples)
        raw, losses = torch.zeros(len(examples), self.dim), torch.zeros(len(examples))

        def work(batch: Batch) -> None:
            with fast_attention(self.decoder.model):
                states, each = self._of(batch)
            raw[batch.places], losses[batch.places] = states.float().cpu(), each.cpu()
            if advance:
                advance(len(batch.places))

        in_batches(tokens, self.settings.token_budget, self.decoder.device, work)
        return Features.of(raw, losses, tokens, self.settings, bf16=self.bf16)

    def token_shares(
        self, examples: Sequence[Example], role: Role, others: Sequence[NDArray[np.float32]]
    ) -> list[NDArray[np.float32]]:
        """None: hidden states are no sums over the tokens of a loss."""
        refuse_no_token_shares(self.settings)
        return []

    def _of(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """((n, dim), (n,) losses) of a batch."""
        model = self.decoder.model
        with torch.autocast(self.decoder.device.type, torch.bfloat16, enabled=self.bf16):
            hidden = model.base_model(input_ids=batch.ids, use_cache=False).last_hidden_state
            states = hidden[batch.rows, batch.columns]
            logits = (
                model.get_output_embeddings()(states)
                if self._plain_head
                else model(input_ids=batch.ids, use_cache=False).logits[batch.rows, batch.columns]
            )
        hidden, states = hidden.float(), states.float()
        each, error, _ = cross_entropy(logits, batch.targets)
        losses = torch.zeros(len(batch.places), device=batch.ids.device)
        losses.index_add_(0, batch.rows, each * batch.weights)
        if self.settings.source == "head":
            delta = (error * batch.weights[:, None]) @ self._head.float()
            outer = [delta[batch.rows == row].T @ states[batch.rows == row] for row in range(len(batch.places))]
            whole = torch.stack(outer).flatten(1)
            return whole if self._sketch is None else self._sketch([whole]), losses
        if self.settings.source == "last-state":
            return hidden[torch.arange(len(hidden)), batch.lengths - 1], losses
        places = torch.arange(1, hidden.shape[1] + 1, device=hidden.device)
        shares = places * (places <= batch.lengths[:, None])
        return torch.einsum("nt,ntd->nd", shares / shares.sum(dim=1, keepdim=True), hidden), losses
