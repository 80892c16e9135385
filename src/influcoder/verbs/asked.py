"""What rows are scored by: the queries' own gradients where there is the decoder, else their text.

A text does not say what a model has yet to learn of it; its gradient does, for one backward pass a query.
"""

from collections.abc import Sequence

from influcoder.attribution.search import query_vectors
from influcoder.data.examples import Example
from influcoder.indexes.index import Index
from influcoder.maths.arrays import Floats
from influcoder.model.decoder import Decoder
from influcoder.provenance import IMPORTED
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.encoder_folder import teacher_of
from influcoder.teachers.teacher import Teacher
from influcoder.verbs.opening import AnyCheckpoints, open_checkpoints


def asking_teacher(
    encoder: InfluenceEncoder, decoder: Decoder | None, checkpoints: AnyCheckpoints | None = None
) -> Teacher | None:
    """The teacher that takes the queries' gradients; None without a decoder, or where the encoder cannot use them.

    Raises:
        StoreMismatch: decoder or checkpoints are not those that the encoder was distilled from.
        ConfigError: it was distilled from checkpoints, and none are given.
    """
    record = encoder.provenance.teacher
    if decoder is None or encoder.query_projector is None or record is None or record.name == IMPORTED:
        return None
    return teacher_of(encoder, decoder, open_checkpoints(checkpoints, decoder, encoder.provenance))


def vectors_of(index: Index, queries: Sequence[Example], teacher: Teacher | None) -> Floats:
    """(n, dim) vectors to score an index by.

    Raises:
        DataError: a query has no gradient.
    """
    features = None if teacher is None else teacher.features(queries, "query").refuse_rejected(queries).vectors
    return query_vectors(index, queries, features)
