"""JAX: the cross-entropy of a linear map, one chunk of tokens at a time, with its gradients on the way."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from keras_tfm.backend.cross_entropy_rule import losses_and_normalizers, slopes_of

_BLOCK = 1 << 15  # classes of one product: XLA copies the kernel that it is given, and adds no product in place


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def linear_cross_entropy(features, kernel, bias, targets, weights, rule):
    """The weighted sum of the losses, float32 scalar.

    Args:
        features: float `[M, D]`.
        kernel: float `[D, V]`, or `[V, D]` if `rule.is_tied`.
        bias: float `[V]` or `None`.
        targets: int32 `[M]` in `[0, V)`.
        weights: float32 `[M]`; a token of weight 0 is not computed.
        rule: a `CrossEntropyRule`.
    """
    return _run(features, kernel, bias, targets, weights, rule, has_gradients=False)[0]


def _forward(features, kernel, bias, targets, weights, rule):
    total, gradients = _run(features, kernel, bias, targets, weights, rule, has_gradients=True)
    empty = [None if x is None else jnp.zeros((0,), x.dtype) for x in (features, kernel, bias)]
    return total, (gradients, empty)


def _backward(rule, saved, upstream):
    (of_features, of_kernel, of_bias, losses), likes = saved
    scaled = [
        None if like is None else (upstream * x).astype(like.dtype)
        for x, like in zip((of_features, of_kernel, of_bias), likes, strict=True)
    ]
    return (*scaled, None, upstream * losses)


linear_cross_entropy.defvjp(_forward, _backward)


@functools.partial(jax.jit, static_argnames=("rule", "has_gradients"))
def _run(features, kernel, bias, targets, weights, rule, has_gradients):
    num_tokens, width = features.shape
    size = min(rule.chunk_size, max(1, num_tokens))
    order = jnp.argsort(weights == 0)  # tokens that count come first: the rest is never looked at
    count = jnp.sum(weights != 0, dtype="int32")
    kept = jnp.pad(order, (0, -num_tokens % size))
    kept_weights = jnp.where(jnp.arange(len(kept)) < count, weights[kept], 0.0)
    kept_features, kept_targets = jnp.where(kept_weights[:, None] == 0, 0, features[kept]), targets[kept]
    weight = kernel.astype(features.dtype)
    scale = _scale(weights, features.dtype)

    def body(i, carry):
        losses, *gradients = carry
        chunk = [lax.dynamic_slice_in_dim(x, i * size, size) for x in (kept_features, kept_targets, kept_weights)]
        logits = _logits(chunk[0], weight, rule)
        logits = logits if bias is None else logits + bias.astype("float32")
        chunk_losses, normalizers = losses_and_normalizers(logits, chunk[1], rule)
        # Weights of 0 stand for places past the end, whose losses are those of any token.
        losses = lax.dynamic_update_slice(losses, jnp.where(chunk[2] == 0, 0.0, chunk_losses), (i * size,))
        if not has_gradients:
            return (losses,)
        return losses, *_add_gradients(gradients, chunk, logits, normalizers, weight, i * size, scale, rule)

    carry = (jnp.zeros(len(kept), "float32"),)
    if has_gradients:
        of_bias = None if bias is None else jnp.zeros(bias.shape, "float32")
        carry += (jnp.zeros((len(kept), width), "float32"), jnp.zeros(kernel.shape, "float32"), of_bias)
    losses, *gradients = lax.fori_loop(0, (count + size - 1) // size, body, carry)
    total = jnp.sum(losses * kept_weights)
    if not has_gradients:
        return total, None
    places = jnp.argsort(order)
    return total, (gradients[0][places], gradients[1], gradients[2], losses[places])


def _logits(features, weight, rule):
    axis = 1 - int(rule.is_tied)

    def write(logits, start, size):
        block = lax.dynamic_slice_in_dim(weight, start, size, axis=axis)
        return lax.dynamic_update_slice(logits, _product(features, block, 1, 1 - axis), (0, start))

    num_classes = weight.shape[axis]
    return _by_blocks(write, jnp.zeros((len(features), num_classes), "float32"), num_classes)


def _add_gradients(gradients, chunk, logits, normalizers, weight, start, scale, rule):
    of_features, *of_weights = gradients
    features, targets, weights = chunk
    weights, num_classes, axis = weights[:, None], logits.shape[1], 1 - int(rule.is_tied)
    weighted = ((weights / scale) * features).astype(features.dtype)
    # Turned first: XLA takes a quarter longer to multiply by a matrix that it reads across its rows.
    turned = weighted if rule.is_tied else lax.optimization_barrier(weighted.T)

    def add(totals, start, size):
        of_chunk, of_kernel, of_bias = totals
        slopes = lax.dynamic_slice_in_dim(logits, start, size, axis=1)
        slopes = slopes_of(slopes, normalizers, targets - start, rule, num_classes)
        if of_bias is not None:
            old = lax.dynamic_slice_in_dim(of_bias, start, size)
            of_bias = lax.dynamic_update_slice(of_bias, old + jnp.sum(weights * slopes, axis=0), (start,))
        slopes = slopes.astype(features.dtype)
        block, old = (lax.dynamic_slice_in_dim(x, start, size, axis=axis) for x in (weight, of_kernel))
        product = _product(slopes, weighted, 0, 0) if rule.is_tied else _product(turned, slopes, 1, 0)
        place = (start, 0) if rule.is_tied else (0, start)
        of_kernel = lax.dynamic_update_slice(of_kernel, old + scale * product, place)
        return of_chunk + _product(slopes, block, 1, axis), of_kernel, of_bias

    of_chunk, *of_weights = _by_blocks(add, (jnp.zeros(features.shape, "float32"), *of_weights), num_classes)
    return lax.dynamic_update_slice(of_features, weights * of_chunk, (start, 0)), *of_weights


def _by_blocks(function, carry, num_classes):
    """`carry` after `function(carry, start, size)` for one block of classes after the other."""
    num_blocks, rest = divmod(num_classes, _BLOCK)
    if num_blocks:
        carry = lax.fori_loop(0, num_blocks, lambda i, carry: function(carry, i * _BLOCK, _BLOCK), carry)
    return function(carry, num_classes - rest, rest) if rest else carry


def _product(a, b, axis_of_a, axis_of_b):
    return lax.dot_general(a, b, (((axis_of_a,), (axis_of_b,)), ((), ())), preferred_element_type="float32")


def _scale(weights, dtype):
    """What weights are divided by before a product in half precision, which has no room for small ones."""
    if jnp.dtype(dtype).itemsize > 2:
        return jnp.float32(1.0)
    largest = jnp.max(jnp.abs(weights), initial=0.0)
    return jnp.where(largest > 0, largest, 1.0)
