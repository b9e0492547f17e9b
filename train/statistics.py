"""Token-weighted means with their uncertainty. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def interval(losses: Sequence[float], tokens: Sequence[int]) -> dict[str, Any]:
    """Mean negative log-likelihood a token over examples, with its 95 % interval and the perplexity.

    `losses` holds the summed negative log-likelihood (nats) of each example, `tokens` the number of tokens summed. The mean is
    a ratio of two sums over examples, which are what varies independently, not tokens; its standard error is the usual
    linearisation of a ratio estimator (Cochran, Sampling Techniques, 1977, section 2.11).
    """
    count, total = len(losses), sum(tokens)
    if not total:
        return {"loss": None, "interval": None, "perplexity": None, "examples": count, "tokens": 0}
    mean = sum(losses) / total
    spread = sum((loss - mean * size) ** 2 for loss, size in zip(losses, tokens, strict=True))
    error = math.sqrt(spread * count / max(1, count - 1)) / total
    return {
        "loss": round(mean, 7),
        "interval": [round(mean - 1.96 * error, 7), round(mean + 1.96 * error, 7)],
        "perplexity": round(math.exp(min(mean, 700)), 4),
        "examples": count,
        "tokens": total,
    }


def difference(before: Sequence[float], after: Sequence[float], tokens: Sequence[int]) -> dict[str, Any]:
    """`interval` of the paired change from `before` to `after` on the same examples; negative is better.

    Pairing removes what makes examples differ from one another, so that a small improvement is not lost in it.
    """
    change = interval([b - a for a, b in zip(before, after, strict=True)], tokens)
    return {name: change[name] for name in ("loss", "interval", "examples", "tokens")}


def proportion(right: Sequence[bool]) -> dict[str, Any]:
    """The share of right answers with its 95 % interval (Wilson's score interval, JASA 1927), honest near 0 and 1 too."""
    count, z = len(right), 1.96
    if not count:
        return {"share": None, "interval": None, "questions": 0}
    found = sum(right) / count
    middle = (found + z * z / (2 * count)) / (1 + z * z / count)
    width = z / (1 + z * z / count) * math.sqrt(found * (1 - found) / count + z * z / (4 * count * count))
    return {
        "share": round(found, 5),
        "interval": [round(max(middle - width, 0.0), 5), round(min(middle + width, 1.0), 5)],
        "questions": count,
    }


def average(values: Sequence[float]) -> dict[str, Any]:
    """The mean with its 95 % interval (normal). Of differences between two models on the same examples: a paired one."""
    count = len(values)
    if not count:
        return {"mean": None, "interval": None, "examples": 0}
    found = sum(values) / count
    error = math.sqrt(sum((value - found) ** 2 for value in values) / max(1, count - 1) / count)
    return {
        "mean": round(found, 5),
        "interval": [round(found - 1.96 * error, 5), round(found + 1.96 * error, 5)],
        "examples": count,
    }
