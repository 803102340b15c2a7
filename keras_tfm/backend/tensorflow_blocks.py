"""A function of blocks, one after the other, whose gradient computes each block again."""

import tensorflow as tf


def map_blocks(function, blocks):
    """The results of `function`, stacked; see `keras_tfm.backend.functional.map_blocks`."""
    blocks = [tf.convert_to_tensor(x) for x in blocks]
    if not tf.executing_eagerly():
        return _map(function, blocks)
    # Operators that run at once are recorded for the gradient one by one, with all that they computed.
    return tf.function(lambda *blocks: _map(function, blocks), autograph=False)(*blocks)


def _map(function, blocks):
    # Traced once, here: gradients are computed where scopes of the call, as of dtypes and weights, have ended.
    traced = tf.function(function, autograph=False).get_concrete_function(
        *(tf.TensorSpec(x.shape[1:], x.dtype) for x in blocks)
    )
    result = tf.TensorSpec(traced.structured_outputs.shape, traced.structured_outputs.dtype)
    places = [i for i, x in enumerate(blocks) if x.dtype.is_floating]
    outside = [x for x in traced.captured_inputs if x.dtype.is_floating]

    @tf.custom_gradient
    def mapped(*inputs):  # for the graph to know what the result depends on
        def gradient(upstream, variables=()):
            sources = [*outside, *variables]
            slopes, totals = _gradients(traced, blocks, places, sources, upstream)
            of_inputs = slopes + totals[: len(outside)]
            return (of_inputs, totals[len(outside) :]) if variables else of_inputs

        del inputs
        return _forward(traced, blocks, result), gradient

    return mapped(*(blocks[i] for i in places), *outside)


def _forward(traced, blocks, result):
    def step(i, results):
        return i + 1, results.write(i, traced(*(x[i] for x in blocks)))

    return _loop(step, blocks, _array(blocks, result))[1].stack()


def _gradients(traced, blocks, places, sources, upstream):
    """Those of the float blocks, stacked, and those of what every block uses, summed."""

    def step(i, slopes, totals):
        block = [x[i] for x in blocks]
        floats = [block[place] for place in places]
        with tf.GradientTape() as tape:
            tape.watch([*floats, *sources])
            output = traced(*block)
        found = tape.gradient(
            output, [*floats, *sources], upstream[i], unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        found = [tf.convert_to_tensor(x) for x in found]  # of rows of a table there may be only those that were read
        slopes = [array.write(i, x) for array, x in zip(slopes, found, strict=False)]
        totals = [total + x for total, x in zip(totals, found[len(places) :], strict=True)]
        return i + 1, slopes, totals

    slopes = [_array(blocks, tf.TensorSpec(blocks[i].shape[1:], blocks[i].dtype)) for i in places]
    totals = [tf.zeros(tf.shape(x), x.dtype) for x in sources]
    _, slopes, totals = _loop(step, blocks, slopes, totals)
    return [array.stack() for array in slopes], list(totals)


def _loop(step, blocks, *state):
    length = blocks[0].shape[0]
    state = (tf.constant(0), *state)
    return tf.while_loop(lambda i, *_: i < length, step, state, parallel_iterations=1, maximum_iterations=length)


def _array(blocks, spec):
    return tf.TensorArray(spec.dtype, size=blocks[0].shape[0], element_shape=spec.shape)
