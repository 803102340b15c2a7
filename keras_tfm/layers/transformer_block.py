"""What encoder and decoder blocks share: parts, configuration, and how a sub-layer joins the residual stream."""

import keras

from keras_tfm.layers.feed_forward import FeedForward
from keras_tfm.layers.multi_head_attention import MultiHeadAttention
from keras_tfm.layers.parts import clone_initializer, clone_part, get_part, make_normalization, serialize_part

_PARTS = {
    *("self_attention", "self_attention_norm", "self_attention_dropout"),
    *("cross_attention", "cross_attention_norm", "cross_attention_dropout"),
    *("feed_forward", "feed_forward_norm", "feed_forward_dropout"),
}


class TransformerBlock(keras.layers.Layer):
    """Base of `TransformerEncoder` and `TransformerDecoder`, which say what the arguments are."""

    def __init__(
        self,
        intermediate_dim,
        num_heads,
        dropout=0.0,
        activation="relu",
        layer_norm_epsilon=1e-05,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        normalize_first=False,
        *,
        attention_dropout=None,
        activation_dropout=0.0,
        num_key_value_heads=None,
        position=None,
        normalization="layer",
        feed_forward=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        for argument, value in (("intermediate_dim", intermediate_dim), ("num_heads", num_heads)):
            if not isinstance(value, int) or value <= 0:
                raise ValueError(f"`{argument}` must be a positive integer. Received: {argument}={value!r}")
        rates = {"dropout": dropout, "attention_dropout": attention_dropout, "activation_dropout": activation_dropout}
        for argument, rate in rates.items():
            if rate is not None and not 0 <= rate < 1:
                raise ValueError(f"`{argument}` must be in [0, 1). Received: {argument}={rate!r}")
        self.supports_masking = True
        self.intermediate_dim = intermediate_dim
        self.num_heads = num_heads
        self.dropout = dropout
        self.activation = keras.activations.get(activation)
        self.layer_norm_epsilon = layer_norm_epsilon
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.normalize_first = normalize_first
        self.attention_dropout = attention_dropout
        self.activation_dropout = activation_dropout
        self.num_key_value_heads = num_key_value_heads
        self.normalization = normalization
        self._position = position
        self._feed_forward = get_part("feed_forward", feed_forward, {})

    def _make_attention(self, name, query_shape, value_shape, position=None):
        hidden_dim = query_shape[-1]
        if hidden_dim is None or hidden_dim % self.num_heads:
            raise ValueError(
                "`num_heads` must divide the width of the inputs. "
                f"Received: num_heads={self.num_heads}, inputs of width {hidden_dim}"
            )
        layer = MultiHeadAttention(
            self.num_heads,
            hidden_dim // self.num_heads,
            dropout=self.dropout if self.attention_dropout is None else self.attention_dropout,
            kernel_initializer=clone_initializer(self.kernel_initializer),
            bias_initializer=clone_initializer(self.bias_initializer),
            num_key_value_heads=self.num_key_value_heads,
            position=position,
            dtype=self.dtype_policy,
            name=name,
        )
        layer.build(query_shape, value_shape)
        return layer

    def _make_norm(self, name, shape):
        norm = make_normalization(self.normalization, self.layer_norm_epsilon, self.dtype_policy, name)
        norm.build(shape)
        return norm

    def _make_dropout(self, name):
        return keras.layers.Dropout(self.dropout, dtype=self.dtype_policy, name=name)

    def _build_self_attention(self, shape, name):
        self.self_attention = self._make_attention(name, shape, shape, self._position)
        self.self_attention_norm = self._make_norm("self_attention_layer_norm", shape)
        self.self_attention_dropout = self._make_dropout("self_attention_dropout")

    def _build_feed_forward(self, shape):
        self.feed_forward = clone_part(self._feed_forward) or FeedForward(
            self.intermediate_dim,
            activation=self.activation,
            dropout=self.activation_dropout,
            kernel_initializer=self.kernel_initializer,
            bias_initializer=self.bias_initializer,
            dtype=self.dtype_policy,
            name="feed_forward",
        )
        self.feed_forward.build(shape)
        self.feed_forward_dropout = self._make_dropout("feedforward_dropout")

    def _build_feed_forward_norm(self, shape):
        self.feed_forward_norm = self._make_norm("feedforward_layer_norm", shape)

    def _enter(self, x, norm):
        """What a sub-layer reads from the residual stream."""
        return norm(x) if self.normalize_first else x

    def _leave(self, x, update, norm, dropout, training):
        """The residual stream after a sub-layer's update."""
        if self.dropout:
            update = dropout(update, training=training)
        x = x + update
        return x if self.normalize_first else norm(x)

    def _feed_forward_update(self, x, training):
        update = self.feed_forward(self._enter(x, self.feed_forward_norm), training=training)
        return self._leave(x, update, self.feed_forward_norm, self.feed_forward_dropout, training)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "intermediate_dim": self.intermediate_dim,
            "num_heads": self.num_heads,
            "dropout": self.dropout,
            "activation": keras.activations.serialize(self.activation),
            "layer_norm_epsilon": self.layer_norm_epsilon,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "normalize_first": self.normalize_first,
            "attention_dropout": self.attention_dropout,
            "activation_dropout": self.activation_dropout,
            "num_key_value_heads": self.num_key_value_heads,
            "position": serialize_part(self._position),
            "normalization": serialize_part(self.normalization),
            "feed_forward": serialize_part(self._feed_forward),
        }

    # Files of weights are named after what `dir` lists. It lists the parts under the names that `keras_hub`'s blocks
    # give them, so that files of either load into the other; what only ours have comes after them.
    def __dir__(self):
        return [name for name in super().__dir__() if name not in _PARTS]

    _self_attention_layer = property(lambda self: self.self_attention)
    _self_attention_layer_norm = property(lambda self: self.self_attention_norm)
    _self_attention_dropout = property(lambda self: self.self_attention_dropout)
    _feedforward_intermediate_dense = property(lambda self: self.feed_forward.intermediate_dense)
    _feedforward_output_dense = property(lambda self: self.feed_forward.output_dense)
    _feedforward_layer_norm = property(lambda self: self.feed_forward_norm)
    _feedforward_dropout = property(lambda self: self.feed_forward_dropout)
    _feedforward_parts = property(lambda self: self.feed_forward)
