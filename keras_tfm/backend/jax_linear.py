"""Products with weights on JAX. On a CPU their gradient computes again, rather than keep, what is cheap to compute."""

import math

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

# A primitive, and no `custom_vjp`, for the sake of forward-mode differentiation.
product_p = Primitive("product_with_weights")


def linear(x, kernel, bias, num_axes=1):
    """`x [..., *inputs]` times `kernel [*inputs, *outputs]`; see `keras_tfm.backend.functional.linear`."""
    inputs, outputs = kernel.shape[:num_axes], kernel.shape[num_axes:]
    tokens, matrix = jnp.reshape(x, (-1, math.prod(inputs))), jnp.reshape(kernel, (math.prod(inputs), -1))
    if jax.default_backend() == "cpu" and tokens.dtype == matrix.dtype:
        product = product_p.bind(tokens, matrix)
    else:
        product = jnp.matmul(tokens, matrix)
    if bias is not None:
        product = product + jnp.reshape(bias, (-1,))
    return jnp.reshape(product, (*x.shape[:-num_axes], *outputs))


def not_before(x, cause):
    """`x`, computed after `cause`; see `keras_tfm.backend.functional.not_before`."""
    if jax.default_backend() != "cpu" or 0 in cause.shape:
        return x
    # XLA takes optimization barriers away before it puts operations in order. It does not see that this is never true.
    is_never = cause[(0,) * cause.ndim] > jnp.inf
    return jnp.where(is_never, jnp.zeros((), x.dtype), x)


def _gradient_of_tokens(upstream, tokens, matrix):
    del tokens
    return product_p.bind(upstream, matrix.T)


def _gradient_of_matrix(upstream, tokens, matrix):
    del matrix
    # What the tokens were computed by, a norm or an activation, goes into this as into the product itself.
    return product_p.bind(not_before(tokens, upstream).T, upstream)


def _batch(arguments, axes):
    return jax.vmap(jnp.matmul, axes)(*arguments), 0


product_p.def_impl(jax.jit(jnp.matmul))
product_p.def_abstract_eval(lambda x, matrix: jax.core.ShapedArray((x.shape[0], matrix.shape[1]), x.dtype))
mlir.register_lowering(product_p, mlir.lower_fun(jnp.matmul, multiple_results=False))
batching.primitive_batchers[product_p] = _batch
ad.defbilinear(product_p, _gradient_of_tokens, _gradient_of_matrix)
