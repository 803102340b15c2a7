"""One query, many keys: the step of a decoder, by products that read keys and values where they lie.

A matrix product of one row wants the keys of a head side by side, and TensorFlow's compiler copies the cache to that
layout at each step. Multiplied element by element and summed, they are read once: greedy decoding of a GPT of six
layers on 2 cores went from 825 to 1,510 tokens a second. JAX would lose (1,070 to 290). A `LoopCache` has that layout
already, and is faster still.
"""

import keras
from keras import ops

from keras_tfm.backend.kernel import Kernel
from keras_tfm.ops.reference_attention import attend


def _why_not(request):
    if request.query.shape[1] != 1:
        return "it takes one query a row"
    if request.has_heads_apart:
        return "the keys of a head lie side by side, as a matrix product wants them"
    if keras.backend.backend() != "tensorflow":
        return "it is faster on TensorFlow alone"
    return None


def _dot_logits(request):
    batch, _, num_heads, size = ops.shape(request.query)
    shared = request.key.shape[2]
    query = ops.reshape(ops.cast(request.query, "float32"), (batch, 1, shared, num_heads // shared, size))
    key = ops.expand_dims(ops.cast(request.key, "float32"), 3)
    logits = ops.sum(query * ops.cast(request.scale, "float32") * key, axis=-1)
    return ops.expand_dims(ops.transpose(ops.reshape(logits, (batch, -1, num_heads)), (0, 2, 1)), 2)


def _weigh(weights, value):
    batch, num_heads, _, length = ops.shape(weights)
    shared, size = value.shape[2:]
    weights = ops.transpose(ops.cast(weights[:, :, 0], "float32"), (0, 2, 1))
    weights = ops.reshape(weights, (batch, length, shared, num_heads // shared, 1))
    output = ops.sum(weights * ops.expand_dims(ops.cast(value, "float32"), 3), axis=1)
    return ops.cast(ops.reshape(output, (batch, 1, num_heads, size)), value.dtype)


SINGLE_QUERY = Kernel("single_query", _why_not, lambda request: attend(request, _dot_logits, _weigh))
