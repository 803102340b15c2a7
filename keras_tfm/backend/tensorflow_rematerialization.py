"""Functions whose intermediate results are computed again for the gradient."""

import contextvars

import tensorflow as tf
from keras import tree


def rematerialize(function, keeps_products=False, is_looped=False):
    """`function`, of and to trees of tensors; see `keras_tfm.backend.functional.rematerialize`.

    `tf.recompute_grad` cannot take or return integers, as the states of random generators are.
    """
    del is_looped
    if keeps_products:
        raise ValueError(
            "`rematerialization='selective'` needs JAX or PyTorch: TensorFlow keeps all or nothing of a function. "
            "Received: rematerialization='selective', on TensorFlow"
        )

    def rematerialized(*trees):
        leaves = [tf.convert_to_tensor(leaf) for leaf in tree.flatten(trees)]
        places = [i for i, leaf in enumerate(leaves) if leaf.dtype.is_floating]
        structure = []
        context = contextvars.copy_context()  # the gradient is computed where settings of the call have ended

        def flat(floats):
            every = list(leaves)
            for place, value in zip(places, floats, strict=True):
                every[place] = value
            outputs = context.copy().run(function, *tree.pack_sequence_as(trees, every))
            structure[:] = [tree.map_structure(lambda x: 0, outputs)]
            return [tf.convert_to_tensor(x) for x in tree.flatten(outputs)]

        outputs = _recomputed(flat)(*(leaves[place] for place in places))
        return tree.pack_sequence_as(structure[0], list(outputs))

    return rematerialized


def _recomputed(function):
    """`function(floats) -> list` with a gradient that computes it again."""

    @tf.custom_gradient
    def call(*floats):
        def gradient(*upstream):
            again = _after(floats, upstream)
            with tf.GradientTape() as tape:
                tape.watch(again)
                outputs = function(again)
            pairs = [(x, y) for x, y in zip(outputs, upstream, strict=True) if x.dtype.is_floating]
            targets, upstream = zip(*pairs, strict=True)
            return tape.gradient(
                list(targets), again, list(upstream), unconnected_gradients=tf.UnconnectedGradients.ZERO
            )

        return function(list(floats)), gradient

    return call


def _after(floats, upstream):
    """`floats`, not before `upstream` is known: else the compiler would find that all was computed already."""
    if tf.executing_eagerly():
        return [tf.identity(x) for x in floats]
    first = next(x for x in upstream if x.dtype.is_floating)
    known = tf.cast(tf.reduce_max(tf.reshape(first, [-1])[:1]), tf.bool)  # as `tf.recompute_grad` does it
    nothing = tf.where(known == known, 0.0, float("nan"))
    return [x + tf.cast(nothing, x.dtype) for x in floats]
