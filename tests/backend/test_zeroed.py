"""Zeros where nothing must be seen, whatever is there."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_tfm import backend
from tests.numerics import assert_close, to_numpy, value_and_gradients

SHAPES = [(3, 5), (64, 7, 80)]  # the second is large enough for the bits of PyTorch


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_not_kept_is_zero_even_where_it_was_no_number(shape, dtype):
    rng = np.random.default_rng(0)
    x, keep = rng.normal(size=shape).astype("float32"), rng.random((*shape[:-1], 1)) < 0.5
    spoilt = np.where(keep, x, rng.choice([np.nan, np.inf, -np.inf, -1.0], shape)).astype("float32")
    received = backend.zeroed(ops.convert_to_tensor(spoilt, dtype=dtype), ops.convert_to_tensor(keep))
    assert keras.backend.standardize_dtype(received.dtype) == dtype
    expected = to_numpy(ops.convert_to_tensor(x, dtype=dtype)) * keep
    np.testing.assert_array_equal(to_numpy(received), expected)
    assert not np.signbit(to_numpy(received)[np.broadcast_to(~keep, shape)]).any()


@pytest.mark.parametrize("axes", [(0, 1, 2), (0, 2, 1)])
def test_the_gradient_passes_where_it_was_kept(axes):
    rng = np.random.default_rng(0)
    x, upstream = rng.normal(size=(2, *SHAPES[1])).astype("float32")
    upstream = upstream.transpose(axes)
    keep = rng.random((64, 1, 1)) < 0.5
    value, (slope,) = value_and_gradients(
        lambda x: backend.zeroed(ops.transpose(x, axes), ops.convert_to_tensor(keep)), [x], upstream
    )
    assert_close(value, x.transpose(axes) * keep)
    assert_close(slope, (upstream * keep).transpose(axes))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="of TensorFlow")
def test_products_with_zeros_are_zero_and_so_are_their_gradients():
    x = np.array([1.0, np.nan, np.inf, 3.0], "float32")
    factors, upstream = np.array([2.0, 0.0, 0.0, 0.5], "float32"), np.array([1.0, np.nan, 1.0, -1.0], "float32")
    value, (slope,) = value_and_gradients(lambda x: backend.multiply_no_nan(x, factors), [x], upstream)
    assert_close(value, np.array([2.0, 0.0, 0.0, 1.5]))
    assert_close(slope, np.array([2.0, 0.0, 0.0, -0.5]))


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="of PyTorch")
def test_gradients_of_gradients_and_transformations_pass():
    torch = pytest.importorskip("torch")
    x, keep = torch.randn(SHAPES[1], requires_grad=True), torch.rand(SHAPES[1]) < 0.5
    (slope,) = torch.autograd.grad((backend.zeroed(x, keep) ** 3).sum(), [x], create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), [x])
    torch.testing.assert_close(curvature, torch.where(keep, 6 * x, 0).detach())
    through = torch.func.grad(lambda x: (backend.zeroed(x, keep) ** 3).sum())(x.detach())
    torch.testing.assert_close(through, slope.detach())
