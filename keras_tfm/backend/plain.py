"""Backends without a compiler of their own (numpy, openvino): every name, none of the speed."""

from keras_tfm.backend.functional import rematerialize, scan, while_loop, write_rows, write_slice

__all__ = [
    "KERNELS",
    "compile_loop",
    "is_traced",
    "rematerialize",
    "scan",
    "value_range",
    "while_loop",
    "write_rows",
    "write_slice",
]

KERNELS = ()


def compile_loop(function, variables):
    """Returns `function` itself: there is nothing to compile with."""
    return function


def value_range(tensor):
    """Returns `None`: values are not looked at."""
    return None


def is_traced():
    """False: nothing is compiled."""
    return False
