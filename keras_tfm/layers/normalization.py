"""Keras' normalization layers, with the gradient of `keras_tfm.ops.normalization` where it holds or takes less."""

import keras

from keras_tfm import backend
from keras_tfm.layers.direct_calls import DirectCalls
from keras_tfm.ops.normalization import layer_normalization, rms_normalization


@keras.saving.register_keras_serializable(package="keras_tfm")
class LayerNormalization(DirectCalls, keras.layers.LayerNormalization):
    """`keras.layers.LayerNormalization`, its gradient written down on JAX and TensorFlow."""

    first_weight = "gamma"

    def call(self, inputs):
        """Normalizes `[..., D]`."""
        if self.rms_scaling or not _is_ours(self, inputs):
            return super().call(inputs)
        return layer_normalization(inputs, self.gamma, self.beta, self.epsilon)


@keras.saving.register_keras_serializable(package="keras_tfm")
class RMSNormalization(DirectCalls, keras.layers.RMSNormalization):
    """`keras.layers.RMSNormalization`, its gradient written down on JAX and TensorFlow."""

    first_weight = "scale"

    def call(self, inputs):
        """Normalizes `[..., D]`."""
        if not _is_ours(self, inputs):
            return super().call(inputs)
        return rms_normalization(inputs, self.scale, self.epsilon)


def _is_ours(layer, inputs):
    """Whether the layer is of the last axis, and compiled; PyTorch has kernels of its own."""
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    is_of_last = axes in ([-1], [len(inputs.shape) - 1])
    return is_of_last and keras.backend.backend() != "torch" and backend.is_traced()
