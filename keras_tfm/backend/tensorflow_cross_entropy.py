"""TensorFlow: the cross-entropy of a linear map, one chunk of tokens at a time, with its gradients on the way."""

import tensorflow as tf

from keras_tfm.backend.cross_entropy_rule import capped

_BLOCK = 1 << 20  # elements of a product that is added to the gradient of the kernel: 4 MiB


@tf.autograph.experimental.do_not_convert
def linear_cross_entropy(features, kernel, bias, targets, weights, rule):
    """The weighted sum of the losses, float32 scalar; see `keras_tfm.backend.jax_cross_entropy`.

    In a graph the gradients are computed on the way, and left out of a graph that does not ask for them. Run eagerly
    they are computed, after a second pass over the logits, when they are asked for.
    """
    inputs = [features, kernel, weights] if bias is None else [features, kernel, weights, bias]
    inputs = [tf.convert_to_tensor(x) for x in inputs]  # a variable would have to be handed to the gradient by name

    @tf.custom_gradient
    def run(*inputs):
        is_eager = tf.executing_eagerly()
        total, gradients = _run(*inputs, targets=targets, rule=rule, has_gradients=not is_eager)

        def backward(upstream):
            found = _run(*inputs, targets=targets, rule=rule, has_gradients=True)[1] if is_eager else gradients
            return [tf.cast(upstream * x, like.dtype) for x, like in zip(found, inputs, strict=True)]

        return total, backward

    return run(*inputs)


def _run(features, kernel, weights, bias=None, *, targets, rule, has_gradients):
    num_tokens = tf.shape(features)[0] if features.shape[0] is None else features.shape[0]
    size = tf.minimum(rule.chunk_size, num_tokens) if features.shape[0] is None else min(rule.chunk_size, num_tokens)
    order = tf.argsort(tf.cast(weights == 0, "int32"))  # tokens that count come first: the rest is never looked at
    count = tf.math.count_nonzero(weights, dtype="int32")
    weight = tf.cast(kernel, features.dtype)
    scale = _scale(weights, features.dtype)
    steps = tf.range(size)

    def body(start, losses, gradients):
        places = start + steps
        rows = tf.gather(order, tf.minimum(places, num_tokens - 1))
        x, y, w = (tf.gather(each, rows) for each in (features, targets, weights))
        w = tf.where(places < count, w, 0.0)
        x = tf.where(w[:, None] == 0, tf.zeros((), x.dtype), x)
        logits = tf.cast(tf.matmul(x, weight, transpose_b=rule.is_tied), "float32")
        logits = logits if bias is None else logits + tf.cast(bias, "float32")
        chunk_losses, slopes = _losses_and_slopes(logits, y, rule)
        # Places past the end are those of some token again, to which 0 is added.
        losses = tf.tensor_scatter_nd_add(losses, rows[:, None], tf.where(w == 0, 0.0, chunk_losses))
        if has_gradients:
            gradients = _add_gradients(gradients, x, w, rows, slopes, weight, scale, rule)
        return start + size, losses, gradients

    gradients = _no_gradients(features, kernel, bias, rule) if has_gradients else ()
    carry = (tf.constant(0), tf.zeros_like(weights), gradients)
    _, losses, gradients = tf.while_loop(
        lambda start, *_: start < count,
        body,
        carry,
        shape_invariants=tf.nest.map_structure(lambda x: x.shape, carry),
        parallel_iterations=1,
    )
    total = tf.reduce_sum(losses * weights)
    if not has_gradients:
        return total, []
    of_features, of_blocks, of_bias = gradients
    return total, [of_features, tf.concat(of_blocks, _axis_of_classes(rule)), losses, *of_bias]


def _no_gradients(features, kernel, bias, rule):
    """Zeros: of the features; of the kernel, block by block of its classes; of the bias, if there is one."""
    of_bias = [] if bias is None else [tf.zeros(tf.shape(bias), "float32")]
    of_blocks = []
    for block in _blocks(kernel, rule):
        shape = list(kernel.shape)
        shape[_axis_of_classes(rule)] = block.stop - block.start
        of_blocks.append(tf.zeros(shape, "float32"))
    return tf.zeros(tf.shape(features), "float32"), of_blocks, of_bias


def _axis_of_classes(rule):
    return 0 if rule.is_tied else 1


def _blocks(kernel, rule):
    """Slices of the classes, whose parts of the kernel have `_BLOCK` elements at most."""
    num_classes = kernel.shape[_axis_of_classes(rule)]
    size = max(1, _BLOCK * num_classes // max(1, kernel.shape.num_elements()))
    return [slice(start, min(start + size, num_classes)) for start in range(0, num_classes, size)]


def _losses_and_slopes(logits, targets, rule):
    bent = capped(logits, rule)
    losses, slopes = tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(features=bent, labels=targets)
    smoothing = rule.label_smoothing
    if smoothing:
        at_target = tf.gather(bent, targets, axis=-1, batch_dims=1)
        losses = losses + smoothing * (at_target - tf.reduce_mean(bent, axis=-1))
        is_target = tf.range(logits.shape[-1]) == targets[:, None]
        other = smoothing / logits.shape[-1]
        slopes = slopes + tf.where(is_target, smoothing - other, -other)
    if rule.logit_soft_cap is not None:
        slopes = slopes * (1.0 - tf.square(bent / rule.logit_soft_cap))
    return losses, slopes


def _add_gradients(gradients, features, weights, rows, slopes, weight, scale, rule):
    of_features, of_blocks, of_bias = gradients
    weights = weights[:, None]
    of_bias = [x + tf.matmul(weights, slopes, transpose_a=True)[0] for x in of_bias]
    slopes = tf.cast(slopes, features.dtype)
    of_chunk = weights * tf.cast(tf.matmul(slopes, weight, transpose_b=not rule.is_tied), "float32")
    of_features = tf.tensor_scatter_nd_add(of_features, rows[:, None], of_chunk)
    weighted = tf.cast((weights / scale) * tf.cast(features, "float32"), features.dtype)
    sums = []
    for of_block, block in zip(of_blocks, _blocks(weight, rule), strict=True):
        # One after the other: a graph would make all products before it adds the first.
        with tf.control_dependencies(sums[-1:]):
            part = tf.identity(slopes)[:, block]
        factors = (part, weighted) if rule.is_tied else (weighted, part)
        product = tf.matmul(*factors, transpose_a=True)
        if features.dtype.size <= 2:
            product = scale * tf.cast(product, "float32")
        sums.append(of_block + product)
    return of_features, sums, of_bias


def _scale(weights, dtype):
    """What weights are divided by before a product in half precision, which has no room for small ones."""
    if dtype.size > 2:
        return tf.constant(1.0)
    largest = tf.maximum(tf.reduce_max(tf.abs(weights)), 0.0)
    return tf.where(largest > 0, largest, 1.0)
