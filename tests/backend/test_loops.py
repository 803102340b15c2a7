"""Loops and writes of the backend that Keras runs on, against plain numpy, eager and compiled."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

from keras_tfm import backend

B, S = 3, 7
SHAPES = [(), (2,), (2, 5)]


def array(shape, dtype="float32", seed=0):
    return (np.random.default_rng(seed).normal(size=shape) * 9).astype(dtype)


def tensors(values):
    return keras.tree.map_structure(ops.convert_to_tensor, values)


def check(received, expected):
    received, expected = (keras.tree.flatten(each) for each in (received, expected))
    for x, y in zip(received, expected, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(x), y)


@functools.cache
def compiled(function):
    return backend.compile_loop(function, [])


def run(function, is_compiled, *inputs):
    return (compiled(function) if is_compiled else function)(*tensors(inputs))


def rows_by_numpy(values, new, index):
    values = values.copy()
    for row, start in enumerate(index):
        for offset in range(new.shape[1]):
            if 0 <= start + offset < values.shape[1]:
                values[row, start + offset] = new[row, offset]
    return values


def write_once(values, new, index):
    """In a loop of one pass, where PyTorch writes in place."""
    loop = backend.while_loop(
        lambda loop: loop[0] < 1,
        lambda loop: (loop[0] + 1, backend.write_rows(loop[1], loop[2], loop[3]), *loop[2:]),
        (ops.convert_to_tensor(0, dtype="int32"), values, new, index),
        maximum_iterations=1,
    )
    return loop[1]


@pytest.mark.parametrize("is_compiled", [False, True])
@pytest.mark.parametrize("trailing", SHAPES)
@pytest.mark.parametrize("num_tokens", [1, 3, 9])
def test_rows_are_written_at_their_own_places_and_the_rest_is_dropped(num_tokens, trailing, is_compiled):
    values, new = array((B, S, *trailing)), array((B, num_tokens, *trailing), seed=1)
    write = write_once if is_compiled else backend.write_rows
    for index in ([0, 2, 4], [5, 6, 7], [-2, 9, -9]):
        index = np.array(index, "int32")
        check(run(write, is_compiled, values, new, index), rows_by_numpy(values, new, index))


@pytest.mark.parametrize("dtype", ["bool", "int8", "int32", "float16"])
def test_rows_of_any_dtype(dtype):
    values, new = array((B, S, 2), dtype), array((B, 2, 2), dtype, seed=1)
    index = np.array([1, 6, 3], "int32")
    for is_compiled in (False, True):
        result = run(write_once if is_compiled else backend.write_rows, is_compiled, values, new, index)
        assert keras.backend.standardize_dtype(result.dtype) == dtype
        check(result, rows_by_numpy(values, new, index))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_is_written_along_any_axis(axis):
    values = array((B, S, 5))
    new = np.take(array((B, S, 5), seed=1), [0, 1], axis=axis)
    expected = values.copy()
    expected[(slice(None),) * axis + (slice(1, 3),)] = new
    check(backend.write_slice(*tensors((values, new)), axis, 1), expected)
    check(backend.write_slice(*tensors((values, new)), axis, ops.convert_to_tensor(1, dtype="int32")), expected)


def fill(values, limit):
    """Writes the sums of all values to one position after the other, up to `limit`."""

    def body(loop):
        index, values, limit = loop["index"], loop["values"], loop["limit"]
        total = ops.sum(values, axis=1, keepdims=True) + ops.cast(index, "float32")
        return {"index": index + 1, "values": backend.write_slice(values, total, 1, index), "limit": limit}

    loop = {"index": ops.convert_to_tensor(0, dtype="int32"), "values": values, "limit": limit}
    loop = backend.while_loop(lambda loop: loop["index"] < loop["limit"], body, loop, maximum_iterations=5)
    return loop["index"], loop["values"]


@pytest.mark.parametrize("is_compiled", [False, True])
@pytest.mark.parametrize("limit", [0, 1, 3, 9])
def test_a_loop_runs_as_long_as_its_condition_holds_and_leaves_its_inputs_alone(limit, is_compiled):
    values = np.arange(B * S, dtype="float32").reshape(B, S)
    given = ops.convert_to_tensor(values)
    received = (compiled(fill) if is_compiled else fill)(given, ops.convert_to_tensor(limit, dtype="int32"))
    expected, steps = values.copy(), min(limit, 5)
    for index in range(steps):
        expected[:, index] = expected.sum(1) + index
    check(received, (steps, expected))
    check(given, values)


def test_a_compiled_function_sees_new_values_of_its_variables():
    variable = keras.Variable(np.array([1.0, 2.0], "float32"))

    def grow(x):
        loop = ops.convert_to_tensor(0, dtype="int32"), x
        body = lambda loop: (loop[0] + 1, loop[1] * 2 + variable)  # noqa: E731
        return backend.while_loop(lambda loop: loop[0] < 3, body, loop, maximum_iterations=3)[1]

    program = backend.compile_loop(grow, [variable])
    for value in ([1.0, 2.0], [5.0, -1.0]):
        variable.assign(value)
        check(program(ops.ones((2,))), 8 + 7 * np.array(value))
