"""Checks of numbers among the settings of strategies and rules."""

import math
import numbers


def check_number(name, value, minimum=-math.inf, maximum=math.inf):
    """Return `value` as a Python float within `minimum` and `maximum`, both included.

    Raises:
        ValueError: if `value` is no finite real number or lies outside.
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    if is_number and minimum <= value <= maximum:
        return float(value)
    ranges = {(True, True): "", (False, True): f" of at least {minimum}", (True, False): f" of at most {maximum}"}
    rule = ranges.get((math.isinf(minimum), math.isinf(maximum)), f" from {minimum} to {maximum}")
    raise ValueError(f"`{name}` must be a finite number{rule}. Received: {name}={value!r}")


def check_positive(name, value):
    """Return `value` as a Python float greater than 0.

    Raises:
        ValueError: if `value` is no finite real number or is not greater than 0.
    """
    if isinstance(value, numbers.Real) and not isinstance(value, bool) and 0 < value < math.inf:
        return float(value)
    raise ValueError(f"`{name}` must be a finite number greater than 0. Received: {name}={value!r}")
