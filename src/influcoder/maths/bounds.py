"""What a random sample proves of the rest: exact bounds on a share."""

from scipy.special import betaincinv  # scipy.stats has it too, and takes two seconds to import on a slow machine

CONFIDENCE = 0.95


def share_at_most(hits: int, sampled: int, confidence: float = CONFIDENCE) -> float:
    """The largest share of a population that `hits` of `sampled` random members leave possible.

    The one-sided bound of Clopper and Pearson (1934): were the share any larger, so few hits would have a probability
    of less than 1 - confidence. It holds for samples without replacement as well, where it promises less than it could.

    >>> round(share_at_most(0, 200), 4)
    0.0149
    """
    return 1.0 if hits >= sampled else float(betaincinv(hits + 1, sampled - hits, confidence))
