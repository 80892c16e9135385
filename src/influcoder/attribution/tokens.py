"""Which tokens carry an influence: of a pool row those that act, of a query's completion those that are acted on."""

from collections.abc import Sequence

from influcoder.data.examples import Example, Role
from influcoder.maths.arrays import Floats
from influcoder.model.pieces import pieces
from influcoder.teachers.teacher import Teacher

TokenShares = tuple[tuple[str, float], ...]
"""(text, share) of each token of a completion: the texts add up to the completion, the shares to an influence"""


def tokens_of_rows(
    teacher: Teacher, query: Example, rows: Sequence[Example]
) -> list[tuple[float, TokenShares, TokenShares]]:
    """The exact influence of each pool row on a query, with the shares of the row's tokens and of the query's."""
    query_features = teacher.features([query], "query").refuse_rejected([query]).vectors
    features = teacher.features(rows, "pool").refuse_rejected(rows).vectors
    of_rows = token_shares(teacher, rows, "pool", [query_features] * len(rows))
    of_query = token_shares(teacher, [query], "query", [features])[0]
    exact = (features @ query_features[0]).tolist()
    return [(score, row[0], answer) for score, row, answer in zip(exact, of_rows, of_query, strict=True)]


def token_shares(
    teacher: Teacher, examples: Sequence[Example], role: Role, others: Sequence[Floats]
) -> list[list[TokenShares]]:
    """For each example, the shares of its tokens in its influence with each of its others.

    What follows the completion, such as the end token, comes last with its share and without text.

    Args:
        role: of the examples.
        others: for each example (m, dim) features of examples in the other role.
    """
    answers = []
    shares = teacher.token_shares(examples, role, others)
    for example, tokens, of_others in zip(examples, teacher.decoder.tokenise(examples), shares, strict=True):
        spans = pieces(teacher.decoder.tokenizer, tokens, example.completion)
        answers.append([tuple((text, float(values[numbers].sum())) for text, numbers in spans) for values in of_others])
    return answers
