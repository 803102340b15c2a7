"""The head of masked language modelling: which word was there before it was masked."""

import keras
from keras import ops

from keras_tfm import backend
from keras_tfm.layers.activations import get_activation
from keras_tfm.layers.attach_mask import AttachMask
from keras_tfm.layers.attention_masks import all_of
from keras_tfm.layers.parts import clone_initializer, get_part, serialize_part


@keras.saving.register_keras_serializable(package="keras_tfm")
class MaskedLMHead(keras.layers.Layer):
    """Picks the masked tokens, transforms them, and projects them to the vocabulary.

    A drop-in superset of `keras_hub.layers.MaskedLMHead`; weights saved by it load.

    Args:
        vocabulary_size: V; `None` takes that of `token_embedding`.
        token_embedding: the model's embedding of tokens, whose matrix is used to project: a `PositionalEmbedding`, a
            `keras.layers.ReversibleEmbedding`, or a layer that is called with `reverse=True` like them. `None` for a
            matrix of its own.
        intermediate_activation: of the dense layer before the projection. Defaults to `"relu"`.
        activation: of the output: `None` for logits, or `"softmax"`.
        layer_norm_epsilon: added to the variance of the layer normalization. Defaults to 1e-5.
        kernel_initializer: for all kernels. Defaults to `"glorot_uniform"`.
        bias_initializer: for all biases. Defaults to `"zeros"`.
        **kwargs: `keras.layers.Layer` arguments.

    Call arguments:
        inputs: float `[B, T, D]`.
        mask_positions: int `[B, P]` in `[0, T)`, which tokens to predict; `None` for all of them.
        mask, inputs_mask, mask_positions_mask: the implicit masks, filled in by Keras.

    Returns:
        float `[B, P, V]`, or `[B, T, V]` without positions.

    Masking:
        The output carries the mask of the tokens that were picked, and that of the positions if they have one.

    Numerics:
        `activation` is computed in float32.

    Raises:
        ValueError: neither `vocabulary_size` nor `token_embedding`, or two sizes that differ; positions outside
            `[0, T)` where they can be read.

    Reference:
        Devlin et al. 2019, "BERT", section 3.1; Press & Wolf 2017 (tied weights).

    Example:

    >>> import keras
    >>> head = MaskedLMHead(vocabulary_size=50)
    >>> hidden, positions = keras.random.normal((2, 5, 8)), keras.ops.convert_to_tensor([[1, 3], [0, 4]])
    >>> tuple(head(hidden, positions).shape), tuple(head(hidden).shape)
    ((2, 2, 50), (2, 5, 50))
    """

    def __init__(
        self,
        vocabulary_size=None,
        token_embedding=None,
        intermediate_activation="relu",
        activation=None,
        layer_norm_epsilon=1e-05,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.autocast = False  # bfloat16 would round positions that come as floats
        self.token_embedding = get_part("token_embedding", token_embedding, {})
        self.vocabulary_size = _agreed_size(vocabulary_size, self.token_embedding)
        self.intermediate_activation = get_activation(intermediate_activation)
        self.activation = get_activation(activation)
        self.layer_norm_epsilon = layer_norm_epsilon
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, inputs_shape, mask_positions_shape=None):
        """Makes the dense layer, the normalization and the projection for inputs `[B, T, D]`."""
        del mask_positions_shape
        width = inputs_shape[-1] if self.token_embedding is None else _sizes(self.token_embedding)[1]
        self.intermediate_dense = keras.layers.Dense(
            width,
            activation=self.intermediate_activation,
            kernel_initializer=clone_initializer(self.kernel_initializer),
            bias_initializer=clone_initializer(self.bias_initializer),
            dtype=self.dtype_policy,
            name="intermediate_dense",
        )
        self.intermediate_dense.build(inputs_shape)
        self.intermediate_layer_norm = keras.layers.LayerNormalization(
            epsilon=self.layer_norm_epsilon, dtype=self.dtype_policy, name="intermediate_layer_norm"
        )
        self.intermediate_layer_norm.build((*inputs_shape[:-1], width))
        self.attach_mask = AttachMask(dtype=self.dtype_policy, name="attach_mask")
        self.output_kernel = None
        if self.token_embedding is None:
            self.output_kernel = self.add_weight(
                name="output_kernel",
                shape=(width, self.vocabulary_size),
                initializer=clone_initializer(self.kernel_initializer),
            )
        elif not self.token_embedding.built:
            self.token_embedding.build(inputs_shape[:-1])
        self.output_bias = self.add_weight(
            name="output_bias", shape=(self.vocabulary_size,), initializer=clone_initializer(self.bias_initializer)
        )

    def call(self, inputs, mask_positions=None, *, mask=None, inputs_mask=None, mask_positions_mask=None):
        """Predicts the words at the positions; see the class for arguments."""
        mask = all_of([mask, inputs_mask])
        x = inputs
        if mask_positions is not None:
            positions = ops.cast(mask_positions, "int32")
            _check_positions(positions, inputs)
            x = ops.take_along_axis(inputs, positions[..., None], axis=1)
            mask = None if mask is None else ops.take_along_axis(mask, positions, axis=1)
        x = self.intermediate_layer_norm(self.intermediate_dense(x))
        if self.token_embedding is None:
            outputs = ops.matmul(x, ops.cast(self.output_kernel, x.dtype))
        else:
            outputs = self.token_embedding(x, reverse=True)
        outputs = ops.cast(outputs, self.compute_dtype) + ops.cast(self.output_bias, self.compute_dtype)
        if self.activation is not None:
            outputs = ops.cast(self.activation(ops.cast(outputs, "float32")), self.compute_dtype)
        mask = all_of([mask, mask_positions_mask])
        # Keras would ask `compute_mask`, which does not see the positions.
        return outputs if mask is None else self.attach_mask([outputs, mask])

    def compute_mask(self, inputs, previous_mask=None):
        """`None`: the call itself sets the mask of what was picked."""
        return None

    def compute_output_shape(self, inputs_shape, mask_positions_shape=None):
        """`[B, P, V]`, or `[B, T, V]` without positions."""
        shape = inputs_shape[:-1] if mask_positions_shape is None else mask_positions_shape
        return (*shape, self.vocabulary_size)

    def compute_output_spec(self, inputs, mask_positions=None, **kwargs):
        """float `[B, P, V]`, or `[B, T, V]` without positions."""
        shape = self.compute_output_shape(inputs.shape, None if mask_positions is None else mask_positions.shape)
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "token_embedding": serialize_part(self.token_embedding),
            "intermediate_activation": keras.activations.serialize(self.intermediate_activation),
            "activation": keras.activations.serialize(self.activation),
            "layer_norm_epsilon": self.layer_norm_epsilon,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }

    # Files of weights are named after what `dir` lists: the parts under the names that `keras_hub`'s files have.
    def __dir__(self):
        return [name for name in super().__dir__() if name not in ("intermediate_dense", "intermediate_layer_norm")]

    _intermediate_dense = property(lambda self: self.intermediate_dense)
    _intermediate_layer_norm = property(lambda self: self.intermediate_layer_norm)


def _sizes(embedding):
    """V and D of an embedding, under Keras' names or ours."""
    if hasattr(embedding, "input_dim"):
        return embedding.input_dim, embedding.output_dim
    return embedding.vocabulary_size, embedding.embedding_dim


def _agreed_size(vocabulary_size, embedding):
    if vocabulary_size is None and embedding is None:
        raise ValueError(
            "One of `vocabulary_size` and `token_embedding` must be given. "
            "Received: vocabulary_size=None, token_embedding=None"
        )
    if embedding is None:
        return vocabulary_size
    size = _sizes(embedding)[0]
    if vocabulary_size is not None and vocabulary_size != size:
        raise ValueError(
            "`vocabulary_size` must be that of `token_embedding`. "
            f"Received: vocabulary_size={vocabulary_size}, an embedding of {size} words"
        )
    return size


def _check_positions(positions, inputs):
    span, length = backend.value_range(positions), inputs.shape[1]
    if span is not None and isinstance(length, int) and (span[0] < 0 or span[1] >= length):
        raise ValueError(
            "`mask_positions` must be in [0, T). "
            f"Received: positions from {span[0]} to {span[1]}, inputs.shape={tuple(inputs.shape)}"
        )
