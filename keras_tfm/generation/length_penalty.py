"""Length penalties: what divides the score of a hypothesis, so that hypotheses of other lengths compare."""

import numbers
from typing import Any, NamedTuple

import numpy as np
from keras import ops


class Divisors(NamedTuple):
    """What divides the score of a hypothesis that takes its token at index i."""

    now: Any  # float32 [L], if that token is its last
    later: Any  # float32 [L], the greatest if it goes on


def wu_penalty(lengths, alpha):
    """`((5 + length) / 6) ** alpha`.

    Args:
        lengths: numbers of tokens, END included; numpy float64 of any shape.
        alpha: Python float.

    Returns:
        float64, in the shape of `lengths`.

    Reference:
        Wu et al. 2016, https://arxiv.org/abs/1609.08144, equation 14.

    Example:

    >>> import numpy as np
    >>> print(wu_penalty(np.array([1.0, 7.0]), 1.0))
    [1. 2.]
    """
    return ((5.0 + lengths) / 6.0) ** alpha


def average_penalty(lengths, alpha):
    """`length ** alpha`: with `alpha=1` scores are averages over the tokens.

    Args:
        lengths: numbers of tokens, END included; numpy float64 of any shape.
        alpha: Python float.

    Returns:
        float64, in the shape of `lengths`.

    Example:

    >>> import numpy as np
    >>> print(average_penalty(np.array([1.0, 7.0]), 1.0))
    [1. 7.]
    """
    return lengths**alpha


PENALTIES = {"wu": wu_penalty, "average": average_penalty}


def length_divisors(penalty, length_penalty, max_length):
    """The `Divisors` of hypotheses of 1 ... L tokens.

    Args:
        penalty: `"wu"`, `"average"` or a callable `(lengths float64 [L], alpha) -> float64 [L]`.
        length_penalty: Python number, alpha.
        max_length: L.

    Raises:
        ValueError: if the penalty is unknown, alpha is no finite number, or a divisor is not positive and finite.

    Example:

    >>> now, later = length_divisors("average", 1.0, 3)
    >>> print(ops.convert_to_numpy(now), ops.convert_to_numpy(later))
    [1. 2. 3.] [3. 3. 3.]
    """
    check_length_penalty(penalty, length_penalty)
    form = PENALTIES.get(penalty, penalty) if isinstance(penalty, str) else penalty
    with np.errstate(over="ignore", under="ignore"):
        now = np.asarray(form(np.arange(1.0, max_length + 1), float(length_penalty)), "float32")
    if now.shape != (max_length,) or not (np.isfinite(now).all() and (now > 0).all()):
        raise ValueError(
            f"`length_penalty` must leave the penalty of {max_length} tokens within float32, and above 0. "
            f"Received: length_penalty={length_penalty}"
        )
    greatest = np.maximum.accumulate(now[::-1])[::-1]
    later = np.append(greatest[1:], greatest[-1:])
    return Divisors(ops.convert_to_tensor(now), ops.convert_to_tensor(later))


def check_length_penalty(penalty, length_penalty):
    """Raises `ValueError` if the penalty is unknown or alpha is no finite number."""
    if not callable(penalty) and penalty not in tuple(PENALTIES):
        raise ValueError(
            f"`penalty` must be 'wu', 'average' or a callable of lengths and alpha. Received: penalty={penalty!r}"
        )
    is_number = isinstance(length_penalty, numbers.Real) and not isinstance(length_penalty, bool)
    if not is_number or not np.isfinite(length_penalty):
        raise ValueError(f"`length_penalty` must be a finite number. Received: length_penalty={length_penalty!r}")
