"""Counter-based random numbers: each is a hash of (key, index, column, stream), so that nothing is remembered."""

import operator

from keras import ops

_MULTIPLIERS = (0xED5AD4BB, 0xAC4C1B51, 0x31848BAB)
_GOLDEN = 0x9E3779B9  # 2 ** 32 over the golden ratio: far from every small number
_ROW = 0x85EBCA6B
_WORD = 0xC2B2AE35


def row_keys(seed, rows):
    """One key for each row of a batch.

    Args:
        seed: Python integer, or int32 scalar.
        rows: R, Python integer or int32 scalar.

    Returns:
        int32 `[R]`; of one seed, no two are equal.

    Example:

    >>> print(ops.convert_to_numpy(row_keys(7, 3)))
    [158073860  31608079 263302419]
    """
    if isinstance(seed, int):
        seed = _signed(seed)
    seed = _mix(ops.cast(seed, "int32"))
    rows = _mix(ops.arange(rows, dtype="int32") + _signed(_ROW))
    # Not a sum of seed and row: row 1 of a seed would be row 0 of the next.
    return _mix(ops.bitwise_xor(seed, rows))


def random_bits(keys, index, size, stream=0):
    """Random words of 32 bits.

    Args:
        keys: int32 `[...]`, from `row_keys`.
        index: Python integer, int32 scalar or int32 like `keys`: the position in the sequence.
        size: V, Python integer or int32 scalar, how many numbers each key gets at an index.
        stream: Python integer >= 0; other streams are other numbers. Default 0.

    Returns:
        int32 `[..., V]`, every value equally likely.

    Numerics:
        Each is a hash of all four numbers in int32 arithmetic that wraps, so that it is the same on every backend, and
        a batch draws what its rows draw alone. Other keys, indices, columns or streams behave as independent.
        Two draws share all their columns only where two hashes of 64 bits are equal. This is no cryptography.

    Raises:
        ValueError: if `size` or `stream` is no integer of at least 0.

    Reference:
        Salmon et al. 2011, https://doi.org/10.1145/2063384.2063405, for random numbers by counter; the hash is
        `triple32` of Wellons, https://github.com/skeeto/hash-prospector.

    Example:

    >>> keys = row_keys(7, 2)
    >>> print(ops.convert_to_numpy(random_bits(keys, 0, 3)))
    [[-1237707148 -1081860460 -1784649106]
     [  812270739  -601657265 -1482071654]]
    """
    size = size if hasattr(size, "dtype") else _check("size", size)
    stream = _check("stream", stream)
    first, second = _row_words(keys, index, _mixed_integer(stream * _GOLDEN))
    columns = _mix(ops.arange(size, dtype="int32") + _signed(_GOLDEN))
    return _mix(ops.bitwise_xor(columns, first), second)


def mask_bits_at(keys, index, columns):
    """Random words of 32 bits whose greatest bits are random enough for masks, at half the price of `random_bits`.

    Args:
        keys, index: as in `random_bits`.
        columns: int32 `[C]`, in any order: a part draws what the whole draws there.

    Returns:
        int32 `[..., C]`, to be compared with a bound.

    Numerics:
        Rows and columns are hashed as in `random_bits`, what they make together in two rounds rather than three: 6
        operations an element instead of 14. Compilers fuse them; without one each goes over the memory once.

    Example:

    >>> words = mask_bits_at(row_keys(7, 100), 0, ops.arange(100, dtype="int32"))
    >>> 0.45 < float(ops.mean(ops.cast(words >= 0, "float32"))) < 0.55
    True
    """
    first, second = _row_words(keys, index, 0)
    words = ops.bitwise_xor(_mix(columns + _signed(_GOLDEN)), first) * _signed(_MULTIPLIERS[0]) + second
    return _fold(words, 15) * _signed(_MULTIPLIERS[1])


def _row_words(keys, index, branch):
    """Two words `[..., 1]` of each key at an index."""
    keys = ops.expand_dims(ops.cast(keys, "int32"), -1)
    index = ops.cast(index, "int32")
    index = ops.expand_dims(index, -1) if len(index.shape) else index
    first = _mix(ops.bitwise_xor(_mix(keys), index + _signed(branch)))
    return first, _mix(ops.bitwise_xor(keys, _signed(branch ^ _WORD)) + index * _signed(_GOLDEN))


def uniform(keys, index, size, stream=0):
    """Random numbers, uniform on the open interval (0, 1).

    Args:
        keys, index, size, stream: as in `random_bits`.

    Returns:
        float32 `[..., V]`, odd multiples of 2 ** -24; neither 0 nor 1.

    Numerics:
        The same numbers on every backend, to the bit.

    Raises:
        ValueError: if `size` or `stream` is no integer of at least 0.

    Example:

    >>> import numpy as np
    >>> print(np.round(ops.convert_to_numpy(uniform(row_keys(7, 2), 0, 3)), 3))
    [[0.712 0.748 0.584]
     [0.189 0.86  0.655]]
    """
    bits = _shift(random_bits(keys, index, size, stream), 9)
    return (ops.cast(bits, "float32") + 0.5) * 2.0**-23  # 23 bits and a half are exact in float32


def gumbel(keys, index, size, stream=0):
    """Random numbers of the standard Gumbel distribution.

    The column with the greatest `logits + gumbel` is a draw from the softmax of the logits.

    Args:
        keys, index, size, stream: as in `random_bits`.

    Returns:
        float32 `[..., V]`, finite.

    Numerics:
        `-log(-log(1 - u))` with `u` of 32 bits and most precise near 0, where the great values come from: they decide
        which token is drawn. The same numbers on every backend but for the rounding of its logarithm.

    Raises:
        ValueError: if `size` or `stream` is no integer of at least 0.

    Reference:
        Maddison, Tarlow and Minka 2014, https://arxiv.org/abs/1411.0030, section 2.

    Example:

    >>> import numpy as np
    >>> print(np.round(ops.convert_to_numpy(gumbel(row_keys(7, 2), 0, 3)), 3))
    [[-0.218 -0.321  0.13 ]
     [ 1.562 -0.676 -0.062]]
    """
    bits = random_bits(keys, index, size, stream)
    high, low = (ops.cast(half, "float32") for half in (_shift(bits, 16), ops.bitwise_and(bits, 0xFFFF)))
    small = ops.minimum((high * 2.0**16 + (low + 0.5)) * 2.0**-32, 1 - 2.0**-24)
    return -ops.log(-ops.log1p(-small))


def _check(name, value):
    try:
        integer = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        integer = -1
    if integer < 0:
        raise ValueError(f"`{name}` must be an integer of at least 0. Received: {name}={value!r}")
    return integer


def _mix(words, key=0):
    """The hash of int32 `words`, one to one; with a `key` each key has a hash of its own."""
    first, second, third = (_signed(multiplier) for multiplier in _MULTIPLIERS)
    words = _fold(words, 17) * first
    words = (_fold(words, 11) + key) * second
    words = _fold(words, 15) * third
    return _fold(words, 14)


def _fold(words, places):
    return ops.bitwise_xor(words, _shift(words, places))


def _shift(words, places):
    # The shift of int32 repeats the sign: the mask makes it zeros.
    return ops.bitwise_and(ops.right_shift(words, places), (1 << (32 - places)) - 1)


def _mixed_integer(word):
    """`_mix` of a Python integer, as one of 0 ... 2 ** 32 - 1."""
    for places, multiplier in zip((17, 11, 15), _MULTIPLIERS, strict=True):
        word &= 0xFFFFFFFF
        word = (word ^ word >> places) * multiplier
    word &= 0xFFFFFFFF
    return word ^ word >> 14


def _signed(word):
    """A Python integer modulo 2 ** 32, as int32 has it."""
    return (word + 2**31) % 2**32 - 2**31
