"""Checks for any model, yours too: that the future, the padding and the rest of the batch change nothing.

Each check runs the model on inputs, changes what must not matter, runs it again and raises `AssertionError` with the
place and the size of the difference. Inputs are given, or drawn at random from the model's own specification.
"""

import keras
import numpy as np


def assert_causal(model, inputs=None, *, input_name=None, trials=3, atol=1e-5, seed=0):
    """Checks that changing a token changes no output before it.

    Args:
        model: a model or callable whose outputs are `[B, T, ...]`.
        inputs: int `[B, T]` or float `[B, T, D]`, or a dict of inputs by name; `None` draws small ones from the
            model's own specification.
        input_name: which of a dict's inputs must be causal; the last one by default.
        trials: how many positions are changed, one at a time.
        atol: largest difference that counts as none.
        seed: of the draws.

    Raises:
        AssertionError: an output before the changed token moved, or none at or after it did (then nothing was tested).

    Example:

    >>> import keras, keras_tfm
    >>> ids = keras.Input((None,), dtype="int32")
    >>> x = keras_tfm.layers.PositionalEmbedding(20, 20, 8)(ids)
    >>> keras_tfm.testing.assert_causal(keras.Model(ids, keras_tfm.layers.TransformerDecoder(16, 2)(x)))
    """
    rng = np.random.default_rng(seed)
    inputs = _inputs(model, inputs, rng)
    name = input_name or list(inputs)[-1]
    before = _run(model, inputs)
    length = inputs[name].shape[1]
    moved = 0.0
    for position in rng.permutation(np.arange(1, length))[:trials]:
        changed = {**inputs, name: _change(inputs[name], int(position), rng)}
        difference = np.abs(_run(model, changed) - before)
        _require(difference[:, :position], atol, f"changing token {position} of {name!r} changed an earlier output")
        moved = max(moved, difference[:, position:].max())
    if moved <= 0:
        raise AssertionError(f"Changing tokens of {name!r} changed no output at all: nothing was tested.")


def assert_padding_invariant(model, inputs=None, *, input_names=None, pad_value=0, extra=3, atol=1e-5, seed=0):
    """Checks that more padding on the right changes no output of the real tokens.

    Args:
        model: a model or callable; outputs `[B, T, ...]` are compared up to the length T of the inputs, outputs `[B,
            ...]` whole.
        inputs: as in `assert_causal`.
        input_names: which of a dict's inputs are padded, all together; `None` pads all.
        pad_value: what padding is made of; masks are padded with False.
        extra: how much padding is added.
        atol: largest difference that counts as none.
        seed: of the draws.

    Raises:
        AssertionError: an output of a real token moved.

    Example:

    >>> import keras, keras_tfm
    >>> ids = keras.Input((None,), dtype="int32")
    >>> x = keras_tfm.layers.PositionalEmbedding(20, 20, 8, mask_zero=True)(ids)
    >>> keras_tfm.testing.assert_padding_invariant(keras.Model(ids, keras_tfm.layers.TransformerEncoder(16, 2)(x)))
    """
    rng = np.random.default_rng(seed)
    inputs = _inputs(model, inputs, rng)
    padded = {
        name: _pad(value, extra, pad_value) if input_names is None or name in input_names else value
        for name, value in inputs.items()
    }
    before, after = _run(model, inputs), _run(model, padded)
    if before.ndim > 1 and after.shape != before.shape:
        after = after[:, : before.shape[1]]
    _require(np.abs(after - before), atol, f"{extra} more padding tokens changed an output of a real token")


def assert_batch_invariant(model, inputs=None, *, atol=1e-5, seed=0):
    """Checks that each sequence gets in a batch what it gets alone.

    Args:
        model: a model or callable.
        inputs: as in `assert_causal`, of at least two sequences.
        atol: largest difference that counts as none.
        seed: of the draws.

    Raises:
        AssertionError: an output depends on the rest of the batch.

    Example:

    >>> import keras, keras_tfm
    >>> ids = keras.Input((None,), dtype="int32")
    >>> x = keras_tfm.layers.PositionalEmbedding(20, 20, 8, mask_zero=True)(ids)
    >>> keras_tfm.testing.assert_batch_invariant(keras.Model(ids, keras_tfm.layers.TransformerEncoder(16, 2)(x)))
    """
    inputs = _inputs(model, inputs, np.random.default_rng(seed))
    together = _run(model, inputs)
    for row in range(len(together)):
        alone = _run(model, {name: value[row : row + 1] for name, value in inputs.items()})
        _require(
            np.abs(alone - together[row : row + 1]),
            atol,
            f"sequence {row} of the batch differs from the same sequence alone",
        )


def _inputs(model, inputs, rng, batch_size=3, length=7):
    if isinstance(inputs, dict):
        return {name: np.asarray(value) for name, value in inputs.items()}
    if inputs is not None:
        return {"inputs": np.asarray(inputs)}
    specification = _specification(model)
    if specification is None:
        raise ValueError(
            f"`inputs` must be given for a model without a specification of its own. Received: model={model!r}"
        )
    if not isinstance(specification, dict):
        specification = {tensor.name: tensor for tensor in keras.tree.flatten(specification)}
    return {name: _draw(tensor, rng, batch_size, length) for name, tensor in specification.items()}


def _specification(model):
    """The symbolic inputs in the structure that the model takes; `None` if it has none."""
    return model.input if getattr(model, "inputs", None) else None


def _draw(tensor, rng, batch_size, length):
    shape = [batch_size, *(length if size is None else size for size in tensor.shape[1:])]
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    if dtype == "bool":
        return np.ones(shape, bool)
    if "int" in dtype:
        return rng.integers(4, 9, shape).astype(dtype)
    return rng.normal(size=shape).astype(dtype)


def _run(model, inputs):
    specification = _specification(model)
    if len(inputs) == 1 and not isinstance(specification, dict):
        (inputs,) = inputs.values()
        inputs = [inputs] if isinstance(specification, (list, tuple)) else inputs
    outputs = model(inputs)
    return np.asarray(keras.ops.convert_to_numpy(keras.tree.flatten(outputs)[0]), "float64")


def _change(values, position, rng):
    values = values.copy()
    row = values[:, position]
    if np.issubdtype(values.dtype, np.integer):
        # Another id that occurs, so that no vocabulary is left; +1 and -1 stay next to ids that are there.
        values[:, position] = np.where(row == values.max(), row - 1, row + 1)
    else:
        values[:, position] = row + rng.normal(size=row.shape)
    return values


def _pad(values, extra, pad_value):
    padding = [(0, 0)] * values.ndim
    padding[1] = (0, extra)
    return np.pad(values, padding, constant_values=False if values.dtype == bool else pad_value)


def _require(difference, atol, what):
    worst = float(difference.max()) if difference.size else 0.0
    if not worst <= atol:
        place = tuple(int(i) for i in np.unravel_index(np.argmax(difference), difference.shape))
        raise AssertionError(f"{what}: by {worst:.3g} at output {place} (atol={atol}).")
