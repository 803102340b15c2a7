"""Recorded loops of PyTorch do what the same loops do eagerly."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

from keras_tfm import backend

if keras.backend.backend() != "torch":
    pytest.skip("recordings are PyTorch's", allow_module_level=True)

import torch

from keras_tfm.backend.torch_recording import Recording


def loop_of(body, num_steps=3):
    """A function of tensors that applies `body(index, *leaves) -> leaves` some times."""

    def function(*leaves):
        start = torch.tensor(0, dtype=torch.int32), *leaves
        return backend.while_loop(
            lambda loop: loop[0] < num_steps,
            lambda loop: (loop[0] + 1, *body(*loop)),
            start,
            maximum_iterations=num_steps,
        )[1:]

    return function


def check_recorded(body, *inputs, variables=(), num_steps=3, num_calls=2):
    """Recorded is eager, at each call; inputs stay as they are. Returns the compiled function."""
    function = loop_of(body, num_steps)
    program = backend.compile_loop(function, list(variables))
    kept = [x.clone() for x in inputs]
    for _ in range(num_calls):
        for received, expected in zip(program(*inputs), function(*inputs), strict=True):
            torch.testing.assert_close(received, expected)
        for x, before in zip(inputs, kept, strict=True):
            torch.testing.assert_close(x, before)
    return program


def numbers(*shape):
    return torch.arange(float(np.prod(shape))).reshape(shape)


def write(array, value, index):
    return backend.write_slice(array, value, 1, index)


def test_inputs_that_are_one_tensor_are_written_apart():
    x = numbers(2, 5)
    check_recorded(lambda index, a, b: (write(a, b[:, 2:3] + 10, index), b * 2), x, x)


def test_outputs_that_are_one_tensor_are_written_apart():
    def body(index, a, b):
        a = write(a, a[:, :1] + 10, index)
        return a, a

    def reading(index, a, b, c):
        a, c = write(a, b[:, :1] + 10, index + 1), c + b
        return a, a, c

    check_recorded(body, numbers(2, 5), numbers(2, 5))
    check_recorded(reading, numbers(2, 5), numbers(2, 5), numbers(2, 5))


def test_expanded_inputs_and_outputs_are_written():
    check_recorded(lambda index, a: (write(a, a[:, 1:2] + 1, index),), numbers(1, 1).expand(2, 5))

    def body(index, a):
        a = write(a, a[:, :1] + 1, index)
        return (a[:1].expand(2, 5),)

    check_recorded(body, numbers(2, 5))


def test_outputs_may_lie_in_another_order_than_inputs():
    def body(index, a):
        return ((a.reshape(-1) * 2).reshape(3, 3).T,)

    check_recorded(body, numbers(3, 3))


def test_a_constant_that_becomes_state_is_not_written_to():
    def body(index, a, total):
        total = total + write(a, torch.ones(2, 1), index)
        return torch.zeros(2, 5), total

    check_recorded(body, numbers(2, 5), torch.zeros(2, 5))


def test_equal_constants_that_become_state_are_written_apart():
    def body(index, a, b, total):
        a = write(a, torch.ones(2, 1), index)
        return torch.zeros(2, 5), torch.zeros(2, 5), total + a + b

    check_recorded(body, *(numbers(2, 5) for _ in range(3)))


def test_a_weight_that_becomes_state_is_not_written_to():
    weight = keras.Variable(np.ones((2, 5), "float32"))

    def body(index, a, total):
        return weight.value, total + write(a, a[:, :1] + 1, index)

    check_recorded(body, numbers(2, 5), numbers(2, 5), variables=[weight])
    np.testing.assert_array_equal(ops.convert_to_numpy(weight), np.ones((2, 5)))


def test_values_of_weights_are_read_at_each_call_also_through_views():
    weight = keras.Variable(np.eye(3, dtype="float32") * 2)
    body = lambda index, x: (x @ weight.value.T[:, :3] + weight.value.reshape(-1)[0],)  # noqa: E731
    program = check_recorded(body, numbers(2, 3), variables=[weight])
    weight.assign(np.arange(9).reshape(3, 3))
    torch.testing.assert_close(program(numbers(2, 3)), loop_of(body)(numbers(2, 3)))


def test_replaced_weights_are_recorded_anew():
    weight = keras.Variable(np.eye(3, dtype="float32") * 2)
    body = lambda index, x: (x @ weight.value,)  # noqa: E731
    program = check_recorded(body, numbers(2, 3), variables=[weight])
    old = weight.value
    weight.value.data = numbers(3, 3)
    torch.testing.assert_close(program(numbers(2, 3)), loop_of(body)(numbers(2, 3)))
    del old


def test_tensors_from_outside_are_those_of_the_call():
    def function(x, other):
        return loop_of(lambda index, x: (x + other,))(x)

    program = backend.compile_loop(function, [])
    for value in (1.0, 2.0):
        torch.testing.assert_close(program(numbers(2), torch.tensor(value))[0], numbers(2) + 3 * value)


def test_a_body_that_reads_a_value_runs_unrecorded():
    def body(index, x):
        return (x + 1 if float(x.sum()) < 5 else x * 2,)

    function = loop_of(body)
    with pytest.warns(UserWarning, match="reads the value of a tensor"):
        received = backend.compile_loop(function, [])(numbers(2))
    torch.testing.assert_close(received, function(numbers(2)))


def test_random_numbers_are_drawn_anew():
    def body(index, x, y):
        return torch.rand(4), torch.rand(4)

    program = backend.compile_loop(loop_of(body, 1), [])
    draws = [*program(numbers(4), numbers(4)), *program(numbers(4), numbers(4))]
    for one, other in itertools.combinations(draws, 2):
        assert (one != other).any()


@pytest.mark.parametrize("num_steps", [0, 1])
def test_loops_without_a_step_and_with_one(num_steps):
    check_recorded(lambda index, x: (write(x, x[:, :1] * 2 + 1, index),), numbers(2, 5), num_steps=num_steps)


def test_equal_sums_before_and_after_a_write_are_not_one():
    def body(index, a, before, after):
        before = before + a.sum(1)
        a = write(a, a[:, 1:2] + 1, index)
        return a, before, after + a.sum(1)

    check_recorded(body, numbers(2, 5), torch.zeros(2), torch.zeros(2))


def test_what_was_read_before_a_write_stays():
    def body(index, a, kept):
        first = a[:, :2] + 0
        a = write(a, a[:, 1:2] + 1, index)
        return a, kept + first

    check_recorded(body, numbers(2, 5), torch.zeros(2, 2))


def test_a_constant_that_is_written_to_is_made_anew():
    def body(index, x):
        scratch = write(torch.zeros(2, 5), x[:, :1] + 1, index)
        return (x + scratch,)

    check_recorded(body, numbers(2, 5))


def test_equal_work_is_done_once():
    weight = torch.ones(3, 3)
    recording = Recording(lambda x: [(x @ weight).exp() + (x @ weight).exp()], [numbers(2, 3)], [weight])
    assert recording.num_operators <= 3
    torch.testing.assert_close(recording.run(numbers(2, 3))[0], 2 * (numbers(2, 3) @ weight).exp())


@pytest.mark.parametrize("num_tokens", [1, 3])
def test_rows_are_written_where_they_stand(num_tokens):
    new = numbers(2, num_tokens, 3) + 100

    def body(index, a, new, places):
        return backend.write_rows(a, new * 2 + index, places + index), new, places

    check_recorded(body, numbers(2, 5, 3), new, torch.tensor([0, 3], dtype=torch.int32))
