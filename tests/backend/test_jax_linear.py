"""Products on JAX: every transformation of JAX sees a product of matrices."""

import keras
import numpy as np
import pytest

if keras.backend.backend() != "jax":
    pytest.skip("a primitive of JAX", allow_module_level=True)

import jax
import jax.numpy as jnp

from keras_tfm.backend.jax_linear import linear, not_before, product

X, W = (np.random.default_rng(seed).normal(size=shape).astype("float32") for seed, shape in ((0, (5, 4)), (1, (4, 3))))


def ours(x, w):
    return jnp.sum(jnp.sin(linear(jnp.cos(x), w, None)))


def ours_of_any_two(x, w):
    return jnp.sum(jnp.sin(product(jnp.cos(x), w)))


def ours_of_a_wide_matrix(x, w):
    return jnp.sum(jnp.sin(product(w.T, jnp.cos(x).T).T))


def plain(x, w):
    return jnp.sum(jnp.sin(jnp.cos(x) @ w))


def rows(function):
    return jax.vmap(jax.grad(function, 1), (0, None))


def columns(function):
    return jax.vmap(function, (None, -1), -1)


@pytest.mark.parametrize("ours", [ours, ours_of_any_two, ours_of_a_wide_matrix])
@pytest.mark.parametrize(
    "transform, arguments",
    [
        (lambda f: f, (X, W)),
        (lambda f: jax.grad(f, (0, 1)), (X, W)),
        (lambda f: jax.jit(jax.grad(f, (0, 1))), (X, W)),
        (lambda f: lambda x, w: jax.jvp(f, (x, w), (w.sum() * x, 2 * w)), (X, W)),
        (lambda f: jax.hessian(f, 1), (X, W)),
        (lambda f: jax.jacrev(jax.grad(f, 1), 0), (X, W)),
        (lambda f: jax.grad(jax.checkpoint(f), (0, 1)), (X, W)),
        (rows, (np.stack([X, 2 * X]), W)),
        (columns, (X, np.stack([W, -W], -1))),
    ],
)
def test_it_is_transformed_as_a_product_is(ours, transform, arguments):
    results = [jax.tree.leaves(transform(function)(*map(jnp.asarray, arguments))) for function in (ours, plain)]
    assert len(results[0]) == len(results[1]) > 0
    for result, expected in zip(*results, strict=True):
        assert result.shape == expected.shape
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


def test_no_tokens_have_a_gradient_of_zeros():
    gradients = jax.grad(ours, (0, 1))(jnp.zeros((0, 4)), jnp.asarray(W))
    assert gradients[0].shape == (0, 4) and not np.any(gradients[1])


@pytest.mark.parametrize("cause", [0.0, np.inf, -np.inf, np.nan])
def test_what_waits_is_not_changed_by_what_it_waits_for(cause):
    x = jnp.asarray([1.0, np.nan, np.inf, -0.0])
    result = jax.jit(not_before)(x, jnp.full((2, 3), cause))
    np.testing.assert_array_equal(result, x)


def test_types_that_differ_are_brought_together():
    result = linear(jnp.asarray(X, "bfloat16"), jnp.asarray(W), jnp.ones(3))
    assert result.dtype == jnp.float32


def test_a_product_can_be_exported_for_any_number_of_tokens():
    (batch,) = jax.export.symbolic_shape("b")
    shape = jax.ShapeDtypeStruct((batch, 7, 4), jnp.float32)
    exported = jax.export.export(jax.jit(lambda x: linear(x, jnp.asarray(W), None)))(shape)
    np.testing.assert_allclose(
        exported.call(np.stack([np.ones((7, 4), "float32")] * 3)), np.ones((3, 7, 4)) @ W, rtol=1e-5
    )
