"""What reads a text with the decoder, for every effort."""

from influcoder.model.decoder import Decoder
from influcoder.student.effort import Effort
from influcoder.student.forward_reader import ForwardReader
from influcoder.student.shallow_reader import ShallowReader
from influcoder.student.short_reader import ShortReader

DecoderReader = ForwardReader | ShallowReader | ShortReader


def forward_reader(effort: Effort, decoder: Decoder) -> ForwardReader | ShallowReader:
    """The reader of an effort without gradients.

    Raises:
        ModelError: the decoder cannot be run so.
    """
    read = effort.reading(decoder)
    return ForwardReader(read) if effort.depth == 1 else ShallowReader(read, effort.depth)
