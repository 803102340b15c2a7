"""Loops and writes of backends whose compilers see to the rest: values in, values out."""

from keras import ops


def while_loop(condition, body, loop, maximum_iterations):
    """`loop`, a tree of tensors, after `body` was applied as long as `condition` holds."""
    # A NamedTuple given alone would be taken for the list of loop variables.
    return ops.while_loop(condition, lambda loop: (body(loop),), (loop,), maximum_iterations=maximum_iterations)[0]


def write_slice(array, new, axis, index):
    """`array` with `new` at `index` on and further along `axis`."""
    start = [0] * len(array.shape)
    start[axis] = index
    return ops.slice_update(array, start, new)
