"""Products of matrices on JAX, and their gradients as XLA computes them fast on a CPU, holding little."""

import functools

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from keras_tfm.backend import functional

# A primitive, and no `custom_vjp`, for the sake of forward-mode differentiation.
product_p = Primitive("product")


def linear(x, kernel, bias, num_axes=1, activation=None):
    """`x [..., *inputs]` times `kernel [*inputs, *outputs]`; see `keras_tfm.backend.functional.linear`."""
    return functional.linear(x, kernel, bias, num_axes, activation, functools.partial(_product, reads_anew=True))


def product(x, matrix):
    """`x [M, K]` times `matrix [K, N]`; see `keras_tfm.backend.functional.product`."""
    return _product(x, matrix, reads_anew=False)


def transposed_product(x, y):
    """`xᵀ · y` of `x [..., M, K]` and `y [..., M, N]`; see `keras_tfm.backend.functional.transposed_product`."""
    if jax.default_backend() != "cpu" or y.shape[-1] >= x.shape[-1]:
        return jnp.matmul(jnp.swapaxes(x, -1, -2), y)
    # XLA multiplies by a transposed matrix at half its speed or less: it is the narrow one that is turned, and first.
    turned = jax.lax.optimization_barrier(jnp.swapaxes(y, -1, -2))
    return jnp.swapaxes(jax.lax.optimization_barrier(jnp.matmul(turned, x)), -1, -2)


def not_before(x, cause):
    """`x`, computed after `cause`; see `keras_tfm.backend.functional.not_before`."""
    if jax.default_backend() != "cpu" or 0 in cause.shape:
        return x
    # XLA takes optimization barriers away before it puts operations in order. It does not see that this is never true.
    is_never = cause[(0,) * cause.ndim] > jnp.inf
    return jnp.where(is_never, jnp.zeros((), x.dtype), x)


def _product(x, matrix, reads_anew):
    if jax.default_backend() == "cpu" and x.dtype == matrix.dtype:
        return product_p.bind(x, matrix, reads_anew=reads_anew)
    return jnp.matmul(x, matrix)


def _gradient_of_tokens(upstream, tokens, matrix, reads_anew):
    del tokens
    return product_p.bind(upstream, matrix.T, reads_anew=reads_anew)


def _gradient_of_matrix(upstream, tokens, matrix, reads_anew):
    del matrix
    # What the tokens were computed by, a norm or an activation, goes into this as into the product itself.
    return transposed_product(not_before(tokens, upstream) if reads_anew else tokens, upstream)


def _matmul(x, matrix, reads_anew):
    del reads_anew
    return jnp.matmul(x, matrix)


def _batch(arguments, axes, reads_anew):
    del reads_anew
    return jax.vmap(jnp.matmul, axes)(*arguments), 0


def _shape(x, matrix, reads_anew):
    del reads_anew
    return jax.core.ShapedArray((x.shape[0], matrix.shape[1]), x.dtype)


product_p.def_impl(jax.jit(_matmul, static_argnames="reads_anew"))
product_p.def_abstract_eval(_shape)
mlir.register_lowering(product_p, mlir.lower_fun(_matmul, multiple_results=False))
batching.primitive_batchers[product_p] = _batch
ad.defbilinear(product_p, _gradient_of_tokens, _gradient_of_matrix)
