"""A function of another backend as one of TensorFlow, for tools that know TensorFlow alone."""

import tensorflow as tf


def as_tensorflow_function(function, pull_back):
    """`function` between eager tensors of TensorFlow, whose tapes get its gradient from `pull_back`.

    Args:
        function: of a numpy array, to a numpy array.
        pull_back: of that array and the gradient of the result, to the gradient of the array.
    """

    @tf.custom_gradient
    def call(x):
        def gradient(upstream):
            return tf.convert_to_tensor(pull_back(x.numpy(), upstream.numpy()))

        return tf.convert_to_tensor(function(x.numpy())), gradient

    return call
