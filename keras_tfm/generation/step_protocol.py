"""The step protocol: what every search checks, asks of `step` and does with its answer."""

import operator

from keras import ops, tree

from keras_tfm.generation.state_rows import map_rows

LOWEST = -3.4028235e38  # the most negative finite float32


def check_integer(name, value, minimum):
    """Return `value` as a Python integer of at least `minimum`.

    Raises:
        ValueError: if `value` is no integer or is smaller than `minimum`.
    """
    try:
        integer = operator.index(value)
    except TypeError:
        integer = None
    if integer is None or isinstance(value, bool) or integer < minimum:
        raise ValueError(f"`{name}` must be an integer of at least {minimum}. Received: {name}={value!r}")
    return integer


def check_ids(name, value):
    """Return `value` as a tuple of token ids; `None` is none of them.

    Raises:
        ValueError: if `value` is not an integer of at least 0, several of them, or `None`.
    """
    if value is None:
        return ()
    values = value if isinstance(value, (tuple, list, set, frozenset, range)) else (value,)
    return tuple(check_integer(name, each, minimum=0) for each in values)


def prepare(start_tokens, state):
    """Return `start_tokens` as an int32 tensor `[B]` and `state` with every leaf as a tensor.

    Raises:
        ValueError: if `start_tokens` is not a vector of integers, or if a leaf of `state` does not start with the batch
            axis B.
    """
    tokens = ops.convert_to_tensor(start_tokens)
    if len(tokens.shape) != 1 or "int" not in str(tokens.dtype):
        raise ValueError(
            "`start_tokens` must be a vector [B] of integers. "
            f"Received: start_tokens of shape {tuple(tokens.shape)} and dtype {tokens.dtype}"
        )
    batch_size = tokens.shape[0]

    def as_batch_first(leaf):
        tensor = None if leaf is None else ops.convert_to_tensor(leaf)
        shape = () if tensor is None else tuple(tensor.shape)
        if not shape or (None not in (shape[0], batch_size) and shape[0] != batch_size):
            received = None if tensor is None else f"a leaf of shape {shape}"
            raise ValueError(
                f"Every leaf of `state` must be a tensor whose first axis is the batch, of size {batch_size} as in "
                f"`start_tokens`; a step without state takes `state=()`. Received: state with {received}"
            )
        return tensor

    state = map_rows(as_batch_first, state)
    return ops.cast(tokens, "int32"), tree.map_structure(ops.convert_to_tensor, state)


def next_logits(step, tokens, index, state, end_ids=()):
    """Take one step and return its logits `[R, V]` in float32 and the new state, in the structure of the old one.

    Raises:
        ValueError: if the logits have not the shape `[R, V]` with a known V greater than every END, or if the new state
            has another number of leaves.
    """
    logits, new_state = step(tokens, index, state)
    shape = tuple(logits.shape)
    rows = tokens.shape[0]
    if len(shape) != 2 or shape[1] is None or (None not in (shape[0], rows) and shape[0] != rows):
        raise ValueError(
            f"`step` must return logits of shape [{rows}, vocabulary_size], one row a token. "
            f"Received: logits of shape {shape}"
        )
    if any(end_id >= shape[1] for end_id in end_ids):
        received = end_ids[0] if len(end_ids) == 1 else end_ids
        raise ValueError(f"`end_id` must be smaller than the vocabulary size {shape[1]}. Received: end_id={received}")
    leaves, new_leaves = tree.flatten(state), tree.flatten(new_state)
    if len(leaves) != len(new_leaves):
        raise ValueError(
            f"`step` must return a state of the structure it was given, {len(leaves)} leaves. "
            f"Received: state with {len(new_leaves)} leaves"
        )
    return ops.cast(logits, "float32"), tree.pack_sequence_as(state, new_leaves)


def log_probabilities(largest, logits):
    """Return the log-probabilities of the `largest` logits without normalising all of them.

    Args:
        largest: float32 `[R, C]`, some entries of `logits`, each row's greatest among them.
        logits: float32 `[R, V]`, finite or -inf.

    Returns:
        float32 `[R, C]`, at most 0; -inf where the logit is, also if the whole row is.
    """
    # Not `largest[:, :1]`: where a top-k is sliced, XLA sorts the whole vocabulary instead (JAX 0.10 on CPU).
    # Not below LOWEST: -inf - -inf would be NaN.
    shift = ops.maximum(ops.max(largest, axis=-1, keepdims=True), LOWEST)
    total = ops.sum(ops.exp(logits - shift), axis=-1, keepdims=True)
    return (largest - shift) - ops.log(ops.maximum(total, 1.0))  # only a row of -inf has a total below 1


def write_tokens(sequences, index, tokens):
    """Return `sequences` int32 `[..., L]` with `tokens` int32 `[...]` at position `index` (scalar int32)."""
    positions = ops.arange(sequences.shape[-1], dtype="int32")
    return ops.where(positions == index, ops.expand_dims(tokens, -1), sequences)
