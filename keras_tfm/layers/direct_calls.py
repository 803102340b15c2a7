"""Calls of layers without what Keras does around a call, where that would do nothing."""

import keras

from keras_tfm import backend


class DirectCalls:
    """A dense layer, called directly where it is one tensor's plain product of the layer's own dtype.

    Keras converts inputs, opens scopes, populates masks and contexts around each call, which on PyTorch, where nothing
    is compiled, takes several times as long as a small product. Where there is something to do (a mask to hand on,
    reduced precision, quantization, LoRA, a distribution, a hook, a first call) Keras does it.
    """

    def __call__(self, inputs, *args, **kwargs):
        """As Keras' call."""
        if args or kwargs or not _is_plain(self, inputs):
            return super().__call__(inputs, *args, **kwargs)
        return self.call(inputs)


def _is_plain(layer, inputs):
    has_mask = getattr(inputs, "_keras_mask", None) is not None
    if not (layer.built and backend.may_call_directly(layer, inputs)) or has_mask:
        return False
    if layer.quantization_mode is not None or layer.lora_enabled or layer.activity_regularizer is not None:
        return False
    kernel, dtype = layer.kernel, layer.compute_dtype
    if not kernel.dtype == dtype == layer.variable_dtype == keras.backend.standardize_dtype(inputs.dtype):
        return False  # the kernel's is that of a scope of autocasting, if there is one
    num_axes = layer.num_input_axes
    return inputs.shape[-num_axes:] == kernel.shape[:num_axes] and keras.distribution.distribution() is None
