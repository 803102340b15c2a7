"""Every name of a backend, by Keras alone: what a backend has that does nothing of its own, numpy for one."""

import math

import keras
from keras import ops

from keras_tfm.backend.cross_entropy_rule import losses_and_normalizers

KERNELS = ()

dropout = None  # `keras_tfm.ops.dropout` chooses by a mask
multiply_no_nan = None  # a choice by a mask is as cheap


def known_values(x):
    """A tensor as a numpy array, where shapes may depend on its values without a compiler or a device that waits.

    Returns:
        A numpy array, or `None`.
    """
    del x


def while_loop(condition, body, loop, maximum_iterations):
    """`loop`, a tree of tensors, after `body` was applied as long as `condition` holds."""
    # A NamedTuple given alone would be taken for the list of loop variables.
    return ops.while_loop(condition, lambda loop: (body(loop),), (loop,), maximum_iterations=maximum_iterations)[0]


def write_slice(array, new, axis, index):
    """`array` with `new` at `index` on and further along `axis`."""
    start = [0] * len(array.shape)
    start[axis] = index
    return ops.slice_update(array, start, new)


def write_rows(array, new, index):
    """`array [B, S, ...]` with `new [B, T, ...]` at positions from int32 `index [B]` on; the rest is dropped."""
    places, sources, is_new = window(array, new, index)
    rows = ops.broadcast_to(ops.arange(ops.shape(array)[0], dtype="int32")[:, None], ops.shape(places))
    trailing = array.shape[2:]
    as_index = (*ops.shape(places), *(1 for _ in trailing))
    if new.shape[1] != 1:  # one token is broadcast
        new = ops.take_along_axis(new, ops.reshape(sources, as_index), axis=1)
    old = ops.take_along_axis(array, ops.reshape(places, as_index), axis=1)
    values = ops.where(ops.reshape(is_new, as_index), new, old)
    # XLA scatters in place; a `where` over the array takes up to six times as long (JAX 0.10, TensorFlow 2.21, CPU).
    indices = ops.reshape(ops.stack([rows, places], axis=-1), (-1, 2))
    return ops.scatter_update(array, indices, ops.reshape(values, (-1, *trailing)))


def window(array, new, index):
    """Where `write_rows` writes: the positions that `new` covers, moved to where they fit.

    Returns:
        int32 `[B, T]`: positions in `array`; those in `new`, clipped; and where these are right: beside `new`, what is
        there already has to stay.
    """
    length, num_tokens = ops.shape(array)[1], ops.shape(new)[1]
    is_known = isinstance(length, int) and isinstance(num_tokens, int)
    width = min(length, num_tokens) if is_known else ops.minimum(length, num_tokens)
    index = ops.cast(index, "int32")[:, None]
    places = ops.clip(index, 0, length - width) + ops.arange(width, dtype="int32")
    sources = places - index
    is_new = ops.logical_and(sources >= 0, sources < num_tokens)
    return places, ops.clip(sources, 0, num_tokens - 1), is_new


def scan(body, carry, slices, length):
    """Applies `body` once for each slice; compiled once where the backend can, here as often as it runs.

    Args:
        body: function of the carry and a slice that returns the next carry, with shapes and dtypes as before, and
            outputs.
        carry: tree of tensors.
        slices: list of trees of tensors, of one structure and the same shapes; the trees may be empty.
        length: how often, at least 1.

    Returns:
        `(carry, outputs)`, a list of the outputs of each.
    """
    columns = []
    for each in slices[:length]:
        carry, outputs = body(carry, each)
        columns.append(outputs)
    return carry, columns


def custom_gradient(forward, backward):
    """A function with the gradient that is written for it.

    Args:
        forward: function of tensors (`None` among them) that returns its result, a tensor, and a tuple of what
            `backward` needs, tensors and `None`.
        backward: function of that tuple and the result's gradient; it returns one for each argument of `forward`,
            `None` for those that have none.

    Returns:
        A function of `forward`'s arguments, all by position, that returns its result.
    """
    del backward
    return lambda *args: forward(*args)[0]


def not_before(x, cause):
    """`x` as it is, computed after `cause` where a compiler would compute it as early as it can, and hold it till then.

    For a gradient that computes again what it needs. The result depends on `cause`, a float tensor, in name alone.
    """
    del cause
    return x


def vector_jacobian_product(function, inputs, cotangent):
    """The gradient of `sum(cotangent * function(*inputs))`.

    Args:
        function: of float tensors, to one float tensor; called at once.
        inputs: list of float tensors or arrays.
        cotangent: tensor or array with the shape of the result, or a function of the result that returns one.

    Returns:
        `(result, gradients)`: a list of one gradient for each input, zeros where nothing depends on it.

    Raises:
        NotImplementedError: the backend has no gradients, as numpy.
    """
    del function, inputs, cotangent
    raise NotImplementedError(f"The backend {keras.backend.backend()!r} has no gradients.")


def zeroed(x, keep):
    """`x` where `keep`, which can be broadcast to it, is True, else zero, whatever `x` is there."""
    return ops.where(keep, x, ops.zeros((), x.dtype))


def take_rows(x, places):
    """`[M, ...]`: the rows of `x [N, ...]` at int `places [M]`, which are all different."""
    return ops.take(x, places, axis=0)


def spread_rows(x, places, count):
    """`[count, ...]`: the rows of `x [M, ...]` at int `places [M]`, which are all different, and zeros elsewhere."""
    return ops.scatter(places[:, None], x, (count, *x.shape[1:]))


def as_one_program(function):
    """`function` of integers, as scalars, compiled by itself where a backend would go through memory for each step."""
    return function


def keep_mask(shape, rate, seed_generator, like):
    """Which elements dropout leaves, bool `[*shape]`; see `keras_tfm.ops.dropout.keep_mask`."""
    del like
    return keras.random.uniform(shape, seed=seed_generator) >= rate


def linear(x, kernel, bias, num_axes=1, activation=None, multiply=ops.matmul):
    """`x [..., *inputs]` times `kernel [*inputs, *outputs]`, plus `bias [*outputs]`, activated; both may be `None`."""
    inputs, outputs = kernel.shape[:num_axes], kernel.shape[num_axes:]
    matrix = ops.reshape(kernel, (math.prod(inputs), math.prod(outputs)))
    product = multiply(ops.reshape(x, (-1, math.prod(inputs))), matrix)
    if bias is not None:
        product = ops.add(product, ops.reshape(bias, (-1,)))
    product = ops.reshape(product, (*ops.shape(x)[:-num_axes], *outputs))
    return product if activation is None else activation(product)


def product(x, matrix):
    """`x [M, K]` times `matrix [K, N]`, neither of them a weight."""
    return ops.matmul(x, matrix)


def transposed_product(x, y):
    """`xᵀ · y` of `x [..., M, K]` and `y [..., M, N]`, as gradients have it."""
    axes = [*range(len(x.shape) - 2), len(x.shape) - 1, len(x.shape) - 2]
    return ops.matmul(ops.transpose(x, axes), y)


def may_call_directly(layer, x):
    """Whether a call of `layer` is eager and watched by nobody, so that what Keras does around it can be left out."""
    del layer, x
    return False


def rematerialize(function, keeps_products=False, is_looped=False):
    """`function` with a gradient that computes its intermediate results again, to keep none of them; here as it is.

    Args:
        function: of and to trees of tensors, without side effects, with one float result at least. Gradients pass to
            its float arguments alone.
        keeps_products: keeps the results of matrix products that are no batches of products.
        is_looped: whether it is called in the body of `scan`.
    """
    del keeps_products, is_looped
    return function


def map_blocks(function, blocks):
    """Applies a function to one block after the other; the gradient computes each again, and keeps none of them.

    Args:
        function: of one tensor `[...]` for each of `blocks`, to one float tensor. Gradients also pass to the tensors
            and variables that it holds.
        blocks: list of tensors `[blocks, ...]`, their first axis known.

    Returns:
        What the function returns, stacked to `[blocks, ...]`.
    """
    return ops.stack([function(*(x[i] for x in blocks)) for i in range(blocks[0].shape[0])])


def compile_loop(function, variables):
    """Returns `function` itself: there is nothing to compile with."""
    return function


def value_range(tensor):
    """Returns `None`: values are not looked at."""
    return None


def is_traced():
    """False: nothing is compiled."""
    return False


def linear_cross_entropy(features, kernel, bias, targets, weights, rule):
    """The weighted sum of the losses, float32 scalar, without gradients."""
    weight = ops.cast(ops.transpose(kernel) if rule.is_tied else kernel, features.dtype)
    total = ops.zeros((), "float32")
    for start in range(0, features.shape[0], rule.chunk_size):
        rows = slice(start, start + rule.chunk_size)
        logits = ops.cast(ops.matmul(features[rows], weight), "float32")
        logits = logits if bias is None else logits + ops.cast(bias, "float32")
        losses, _ = losses_and_normalizers(logits, targets[rows], rule)
        total = total + ops.sum(ops.where(weights[rows] == 0, 0.0, losses * weights[rows]))
    return total
