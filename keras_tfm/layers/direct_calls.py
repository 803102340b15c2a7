"""Calls of layers without what Keras does around a call, where that would do nothing."""

import functools

import keras

from keras_tfm import backend


class DirectCalls:
    """A layer that is called directly where all tensors have its dtype, and no mask of Keras'.

    Keras converts inputs, opens scopes, populates masks and contexts around each call, which on PyTorch, where nothing
    is compiled, takes several times as long as a small product. Where there is something to do (a mask to hand on,
    reduced precision, quantization, LoRA, rematerialization, a distribution, a hook, a first call) Keras does it.
    """

    first_weight = "kernel"  # the path of the weight that the inputs meet first; `None` for a layer without weights
    num_input_axes = 1  # how many axes of the inputs are the first of that weight
    reads_training = False  # whether a call without `training` has to ask Keras for that of the layer around it

    def __call__(self, *args, **kwargs):
        """As Keras' call."""
        if not args or (self.reads_training and kwargs.get("training") is None):
            return super().__call__(*args, **kwargs)
        if not (_is_plain(self, args[0]) and all(_is_ready(self, value) for value in (*args[1:], *kwargs.values()))):
            return super().__call__(*args, **kwargs)
        return self.call(*args, **kwargs)


def _is_plain(layer, inputs):
    if not (layer.built and backend.may_call_directly(layer, inputs)) or _has_mask(inputs):
        return False
    if layer.quantization_mode is not None or layer.activity_regularizer is not None:
        return False
    if getattr(layer, "lora_enabled", False) or getattr(layer, "_remat_mode", None) is not None:
        return False
    if not layer.compute_dtype == layer.variable_dtype == _dtype_of(inputs):
        return False
    is_met = layer.first_weight is None or _meets(inputs, layer)
    return is_met and keras.distribution.distribution() is None


def _meets(inputs, layer):
    """Whether there is a first weight, of the same dtype as the inputs and of their size."""
    # None for a layer that is derived from another and has no weight there.
    weight = functools.reduce(lambda owner, name: getattr(owner, name, None), layer.first_weight.split("."), layer)
    if weight is None or weight.dtype != layer.compute_dtype:
        return False  # the weight's is that of a scope of autocasting, if there is one
    num_axes = layer.num_input_axes
    return inputs.shape[-num_axes:] == weight.shape[:num_axes]


def _is_ready(layer, value):
    """Whether an argument besides the inputs is one that Keras would hand on as it is."""
    if value is None or isinstance(value, (bool, int)):
        return True
    if not keras.ops.is_tensor(value) or _has_mask(value):
        return False
    dtype = _dtype_of(value)
    return "float" not in dtype or dtype == layer.compute_dtype


def _has_mask(tensor):
    return getattr(tensor, "_keras_mask", None) is not None


def _dtype_of(tensor):
    return keras.backend.standardize_dtype(tensor.dtype)
