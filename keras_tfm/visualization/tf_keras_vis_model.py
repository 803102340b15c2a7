"""A model as tf-keras-vis takes it: of embedded tokens, since token ids have no gradient."""

import importlib.util
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_tfm import backend
from keras_tfm.layers import AttachMask
from keras_tfm.visualization.embedded_model import EmbeddedModel


class VisModel(NamedTuple):
    """What tf-keras-vis takes.

    Attributes:
        model: for its classes: a model with one input, the embedded tokens `[B, T, D]`, and one output.
        embeddings: for their `seed_input`: float32 numpy `[B, T, D]`.
    """

    model: object
    embeddings: np.ndarray


def tf_keras_vis_model(model, inputs, input_name=None):
    """Prepares a model and a batch for tf-keras-vis 0.8.

    Ids, masks and all other inputs of the batch are held fixed, so that padding stays padding. On TensorFlow the result
    is a Functional model with copies, by their names, of the layers that have weights, as these are now. Saliency,
    SmoothGrad, activation maximization and the GradCAM family take it, the latter with `penultimate_layer=name,
    seek_penultimate_conv_layer=False`. On JAX and PyTorch it only looks like a model: this backend computes, TensorFlow
    keeps the tape. What looks at the output alone (Saliency, SmoothGrad, activation maximization) takes that too;
    GradCAM needs layers of TensorFlow.

    Args:
        model: a Functional model that embeds token ids, such as `SequenceTagger` or `SequenceClassifier`.
        inputs: what the model takes, with B rows.
        input_name: as `EmbeddedModel` has it.

    Returns:
        A `VisModel`.

    Masking:
        Saliency is 0 at padding. A GradCAM map is not: it is made of a layer's outputs, which padding has too; multiply
        it by the mask.

    Raises:
        ImportError: If tf-keras-vis (the extra `vis`) or TensorFlow is not installed.
        ValueError: The model is none that `EmbeddedModel` takes.

    Example:

    >>> import numpy as np
    >>> from keras_tfm.models import SequenceTagger
    >>> tagger = SequenceTagger(5, 1, 16, 32, 2, vocabulary_size=30)
    >>> vis = tf_keras_vis_model(tagger, np.array([[4, 5, 6, 0]]))  # doctest: +SKIP
    >>> from tf_keras_vis.saliency import Saliency  # doctest: +SKIP
    >>> Saliency(vis.model)(lambda logits: logits[:, 1, 3], vis.embeddings).shape  # doctest: +SKIP
    (1, 4)
    """
    missing = [name for name in ("tf_keras_vis", "tensorflow") if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"{' and '.join(missing)} missing, the extras `vis` and `tensorflow`: pip install keras_tfm[vis,tensorflow]"
        )
    parts = EmbeddedModel(model, input_name)
    inputs = parts.arrays(inputs)
    embeddings = parts.embed(inputs)
    make = _functional if keras.backend.backend() == "tensorflow" else _Bridge
    return VisModel(make(parts, inputs, embeddings.shape), embeddings)


class _Bridge:
    """What tf-keras-vis reads of a model, computed by the backend that Keras runs on."""

    def __init__(self, parts, inputs, shape):
        from keras_tfm.backend.tensorflow_bridge import as_tensorflow_function

        self.name, self.layers = parts.model.name, []
        self.inputs = [keras.KerasTensor((None, *shape[1:]), dtype="float32", name="embeddings")]
        self.outputs = parts.rest.outputs[:1]

        def call(embeddings):
            return ops.cast(parts.call_rest(embeddings, inputs), "float32")

        def pull_back(embeddings, upstream):
            _, (gradient,) = backend.vector_jacobian_product(call, [embeddings], upstream)
            return ops.convert_to_numpy(gradient)

        self._function = as_tensorflow_function(lambda x: ops.convert_to_numpy(call(x)), pull_back)

    def __call__(self, inputs, training=False):
        if training:
            raise ValueError(f"The model is looked at as in inference. Received: training={training}")
        return self._function(inputs[0] if isinstance(inputs, (list, tuple)) else inputs)


def _functional(parts, inputs, shape):
    """A Functional model of the embedded tokens alone, whose layers with weights are in no graph but this."""
    embedded = keras.Input(batch_shape=shape, dtype="float32", name="embeddings")
    values = {slot.number: x for slot, x in zip(parts.slots, inputs, strict=True)}
    copies = {}
    for call in parts.calls:
        args, kwargs = call.arguments(values)
        if call is parts.embedding_call:
            mask = getattr(call.layer(*args, **kwargs), "_keras_mask", None)
            x = embedded if mask is None else AttachMask(name="embedding_mask")([embedded, mask])
            call.store(values, x)
            continue
        is_symbolic = any(isinstance(x, keras.KerasTensor) for x in keras.tree.flatten((args, kwargs)))
        layer = call.layer
        if is_symbolic and getattr(layer, "weights", None) and layer is not parts.embedding_call.layer:
            if id(layer) not in copies:
                copies[id(layer)] = type(layer).from_config(layer.get_config()), layer
            layer = copies[id(layer)][0]
        call.store(values, layer(*args, **kwargs))
    for copy, layer in copies.values():
        copy.set_weights(layer.get_weights())
    return keras.Model(embedded, values[parts.output_slots[0].number], name=f"{parts.model.name}_of_embeddings")
