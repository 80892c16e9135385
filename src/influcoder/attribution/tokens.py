"""Which tokens carry an influence: those of a pool row towards a query, those of an answer that a row pushes."""

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
    """Of each pool row its exact influence on a query, and the shares in it of its tokens and of the query's."""
    asked = teacher.features([query], "query").refuse_rejected([query]).vectors
    features = teacher.features(rows, "pool").refuse_rejected(rows).vectors
    of_rows = token_shares(teacher, rows, "pool", [asked] * len(rows))
    of_query = token_shares(teacher, [query], "query", [features])[0]
    exact = (features @ asked[0]).tolist()
    return [(score, row[0], answer) for score, row, answer in zip(exact, of_rows, of_query, strict=True)]


def token_shares(
    teacher: Teacher, examples: Sequence[Example], role: Role, others: Sequence[Floats]
) -> list[list[TokenShares]]:
    """For each example, the shares of its tokens in its influence with each of its others.

    What is written after a completion, the end token for one, comes last with its share and without text.

    Args:
        role: of the examples.
        others: for each example (m, dim) features of examples in the other role.
    """
    found = []
    shares = teacher.token_shares(examples, role, others)
    for example, tokens, of_others in zip(examples, teacher.decoder.tokenise(examples), shares, strict=True):
        read = pieces(teacher.decoder.tokenizer, tokens, example.completion)
        found.append([tuple((text, float(each[numbers].sum())) for text, numbers in read) for each in of_others])
    return found
