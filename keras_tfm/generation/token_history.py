"""What was read so far, as a window of tokens with the newest last: the memory of the rules that look back."""

import numpy as np
from keras import ops


def start_history(tokens, length, prompt=None):
    """The history before the first step, in which the start tokens are not yet.

    Args:
        tokens: int32 `[B]`, the start tokens.
        length: W >= 1, Python integer: how many of the newest tokens are kept.
        prompt: int32 `[B, P]`, what was read before; the last W of it are kept. `None` for nothing.

    Returns:
        int32 `[B, W]`, the newest last, -1 where there is nothing.

    Example:

    >>> tokens, prompt = ops.convert_to_tensor([7]), ops.convert_to_tensor([[4, 5]])
    >>> print(ops.convert_to_numpy(start_history(tokens, 3, prompt)))
    [[-1  4  5]]
    """
    history = ops.full((ops.shape(tokens)[0], length), -1, dtype="int32")
    if prompt is None:
        return history
    return ops.concatenate([history, prompt], axis=1)[:, -length:]


def remember(history, tokens):
    """The history int32 `[R, W]` after one more of int32 `tokens [R]`; a token of -1 is nothing.

    Example:

    >>> history = ops.convert_to_tensor([[-1, 4, 5]])
    >>> print(ops.convert_to_numpy(remember(history, ops.convert_to_tensor([7]))))
    [[4 5 7]]
    """
    return ops.concatenate([history[:, 1:], ops.expand_dims(tokens, 1)], axis=1)


def decoded(tokens, index):
    """int32 `tokens [R]`, or -1 at index 0, where they are the start tokens and not decoded ones."""
    return ops.where(ops.equal(index, 0), -1, tokens)


def token_counts(ids, vocabulary_size):
    """How often each token is among the ids of its row.

    Args:
        ids: int32 `[R, W]`; ids outside the vocabulary, as -1, do not count.
        vocabulary_size: V, Python integer.

    Returns:
        float32 `[R, V]`.

    Example:

    >>> print(ops.convert_to_numpy(token_counts(ops.convert_to_tensor([[2, 0, 2], [1, -1, 9]]), 3)))
    [[1. 0. 2.]
     [0. 1. 0.]]
    """
    rows = ops.shape(ids)[0]
    total = rows * vocabulary_size
    is_token = ops.logical_and(ids >= 0, ids < vocabulary_size)
    places = ids + ops.expand_dims(ops.arange(rows, dtype="int32"), 1) * vocabulary_size
    # One place more, for all that is no token: PyTorch counts no empty batch (Keras 3.15).
    places = ops.reshape(ops.where(is_token, places, total), (-1,))
    counts = ops.segment_sum(ops.ones_like(places, dtype="float32"), places, num_segments=total + 1)
    return ops.reshape(counts[:-1], (rows, vocabulary_size))


def ids_mask(name, ids, vocabulary_size):
    """numpy bool `[V]`: which tokens are among `ids`.

    Raises:
        ValueError: if an id is not smaller than `vocabulary_size`.
    """
    if any(each >= vocabulary_size for each in ids):
        raise ValueError(
            f"`{name}` must be smaller than the vocabulary size {vocabulary_size}. "
            f"Received: {name}={ids[0] if len(ids) == 1 else ids}"
        )
    mask = np.zeros(vocabulary_size, "bool")
    mask[list(ids)] = True
    return mask
