"""Dropout whose mask costs next to nothing: a hash that compilers fuse, or few draws of a generator."""

import functools

from keras import ops

from keras_tfm import backend
from keras_tfm.ops.counter_random import mask_bits_at, row_keys

_SMALLEST_PROGRAM = 1 << 16  # elements; below, a program of its own costs more than it saves


def dropout(x, rate, seed_generator):
    """Sets elements to zero at random, and scales the others so that the expected value stays.

    Args:
        x: float `[...]`.
        rate: probability in [0, 1] of an element to be dropped; 1 drops all.
        seed_generator: a `keras.random.SeedGenerator`, whose state moves on by one draw.

    Returns:
        As `x`.

    Numerics:
        See `keep_mask`.

    Reference:
        Srivastava et al. 2014, "Dropout: A Simple Way to Prevent Neural Networks from Overfitting".

    Example:

    >>> import keras
    >>> dropped = dropout(keras.ops.ones((2, 1000)), 0.25, keras.random.SeedGenerator(0))
    >>> sorted({round(float(value), 3) for value in keras.ops.convert_to_numpy(dropped).ravel()})
    [0.0, 1.333]
    """
    if rate == 1:
        return ops.zeros_like(x)
    if backend.dropout is not None:
        return backend.dropout(ops.convert_to_tensor(x), rate, seed_generator)
    if backend.multiply_no_nan is not None:
        return backend.multiply_no_nan(x, keep_factors(ops.shape(x), rate, seed_generator, x))
    is_kept = keep_mask(ops.shape(x), rate, seed_generator, x)
    return ops.where(is_kept, x * ops.cast(1 / (1 - rate), x.dtype), ops.zeros((), x.dtype))


def keep_mask(shape, rate, seed_generator, like):
    """Which elements dropout leaves.

    Args:
        shape: of the elements; sizes may be scalar tensors.
        rate: probability in [0, 1) of an element to be dropped.
        seed_generator: a `keras.random.SeedGenerator`, whose state moves on by one draw. On PyTorch one without a seed
            leaves the draw to PyTorch's own generator.
        like: a tensor on the device where the mask is wanted.

    Returns:
        bool `[*shape]`.

    Numerics:
        On JAX and TensorFlow an element's fate is a hash of the generator's seed, the number of the draw and the
        element's place, exact to 2 ** -32: devices that hold parts of the elements draw their parts of one mask, and a
        recomputation with the same state draws the same. PyTorch fuses no hash: there, on a CPU, four elements share a
        word of numpy's generator, exact to 2 ** -17.

    Example:

    >>> import keras
    >>> x = keras.ops.ones((2, 3))
    >>> tuple(keep_mask(x.shape, 0.1, keras.random.SeedGenerator(0), like=x).shape)
    (2, 3)
    """
    return _draw(_itself, shape, rate, seed_generator, like)


def keep_signs(shape, rate, seed_generator, like):
    """`keep_mask` as numbers: float32 `[*shape]`, 1 for what stays and -1 for what is dropped."""
    return _draw(_signs, shape, rate, seed_generator, like)


def keep_factors(shape, rate, seed_generator, like):
    """`keep_mask` as factors: float32 `[*shape]`, `1 / (1 - rate)` for what stays and 0 for what is dropped."""
    return _draw(_factors(rate), shape, rate, seed_generator, like)


def _draw(form, shape, rate, seed_generator, like):
    """The mask in a form, a function of it."""
    if backend.keep_mask is not None:
        return form(backend.keep_mask(shape, rate, seed_generator, like))
    seed, draw = ops.unstack(ops.cast(seed_generator.next(), "int32"))
    *leading, size = shape
    rows = 1
    for length in leading:
        rows = rows * length
    is_small = all(isinstance(length, int) for length in shape) and rows * size < _SMALLEST_PROGRAM
    function = _drawer(form) if is_small else backend.as_one_program(_drawer(form))
    return ops.reshape(function(seed, draw, rows, size, smallest_kept(rate)), shape)


@functools.cache
def _drawer(form):
    def draw_mask(seed, draw, rows, size, bound):
        return form(mask_bits_at(row_keys(seed, rows), draw, ops.arange(size, dtype="int32")) >= bound)

    return draw_mask


def _itself(is_kept):
    return is_kept


def _signs(is_kept):
    one = ops.ones((), "float32")
    return ops.where(is_kept, one, -one)


@functools.cache
def _factors(rate):
    return lambda is_kept: ops.where(is_kept, ops.cast(1 / (1 - rate), "float32"), ops.zeros((), "float32"))


def smallest_kept(rate):
    """The smallest of the words of 32 bits, as int32, that leave what they are drawn for."""
    return round(rate * 2**32) - 2**31
