"""Loops over blocks, compiled once, also where many tensors have to be stacked for them.

XLA compiles equal kernels once. Slices of one array at other places are other kernels: 768 of them, the gradients of 48
blocks, take 5 to 10 seconds (JAX 0.10, CPU), and 0.7 if their places are not constants.
"""

import jax
import jax.numpy as jnp
from keras import tree


def scan(body, carry, slices, length):
    """`body(carry, slice) -> (carry, outputs)` once for each slice; see `keras_tfm.backend.functional.scan`."""
    columns = list(zip(*(tree.flatten(each) for each in slices), strict=True))
    floats = iter(_stack_floats([column for column in columns if _is_float(column[0])]))
    stacked = [next(floats) if _is_float(column[0]) else jnp.stack(column) for column in columns]
    carry, outputs = jax.lax.scan(body, carry, tree.pack_sequence_as(slices[0], stacked), length)
    leaves = tree.flatten(outputs)
    integers = iter(_unstack([leaf for leaf in leaves if not _is_float(leaf)], length))
    columns = [list(leaf) if _is_float(leaf) else next(integers) for leaf in leaves]
    return carry, [tree.pack_sequence_as(outputs, [column[i] for column in columns]) for i in range(length)]


def _is_float(leaf):
    return jnp.issubdtype(leaf.dtype, jnp.floating)


@jax.custom_vjp
def _stack_floats(columns):
    return [jnp.stack(column) for column in columns]


def _stack_forward(columns):
    return _stack_floats(columns), None


def _stack_backward(_, upstream):
    return ([tuple(column) for column in _unstack(upstream, upstream[0].shape[0])] if upstream else [],)


_stack_floats.defvjp(_stack_forward, _stack_backward)


def _unstack(arrays, length):
    """Lists of the elements along the first axis."""
    if not arrays:
        return []
    places = _places(arrays[0], length)
    return [[jax.lax.dynamic_index_in_dim(array, i, keepdims=False) for i in places] for array in arrays]


def _places(array, length):
    """0 ... `length - 1` as int32 that a compiler cannot know: they would turn if a loop ran, which never runs."""
    bits = jax.lax.bitcast_convert_type(jnp.ravel(array)[0].astype("float32"), jnp.uint32)
    never = (bits >> 31) >> 1
    loop = (never, tuple(jnp.int32(i) for i in range(length)))
    return jax.lax.while_loop(lambda loop: loop[0] > 0, lambda loop: (loop[0] - 1, (*loop[1][1:], loop[1][0])), loop)[1]
