"""What the position layers ask of their arguments."""

import numbers


def check_choice(argument, value, choices):
    """Raises `ValueError` if `value` is not one of `choices`."""
    if value not in choices:
        raise ValueError(f"`{argument}` must be one of {list(choices)}. Received: {argument}={value!r}")


def check_positive(argument, value):
    """Raises `ValueError` if `value` is not a positive number."""
    if not isinstance(value, numbers.Real) or not value > 0:
        raise ValueError(f"`{argument}` must be positive. Received: {argument}={value!r}")


def check_positive_integer(argument, value, at_least=1):
    """Raises `ValueError` if `value` is not an integer of `at_least` or more; returns it as an `int`."""
    if not isinstance(value, numbers.Integral) or value < at_least:
        rule = "a positive integer" if at_least == 1 else f"an integer, at least {at_least}"
        raise ValueError(f"`{argument}` must be {rule}. Received: {argument}={value!r}")
    return int(value)


def check_shared_heads(layer, query, weight_heads):
    """Raises `ValueError` if a layer with weights for some number of heads is used with another."""
    if query.shape[2] != weight_heads:
        raise ValueError(
            f"{layer.name!r} was built for {weight_heads} heads; layers that share it must have as many. "
            f"Received: num_heads={query.shape[2]}"
        )
