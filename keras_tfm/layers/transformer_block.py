"""What encoder and decoder blocks share: parts, configuration, and how sub-layers join the residual stream."""

import types

import keras

from keras_tfm import backend
from keras_tfm.layers import block_arguments
from keras_tfm.layers.activations import get_activation
from keras_tfm.layers.block_parts import (
    attends_in_runs,
    copy_attention,
    make_attention,
    make_feed_forward,
    make_initializer,
)
from keras_tfm.layers.direct_calls import DirectCalls
from keras_tfm.layers.dropout import Dropout
from keras_tfm.layers.keras_hub_names import KerasHubNames
from keras_tfm.layers.parts import (
    NORMALIZATIONS,
    clone_initializer,
    clone_part,
    get_part,
    make_normalization,
    resolve_config,
    serialize_part,
)
from keras_tfm.layers.real_tokens import RealTokens
from keras_tfm.layers.stochastic_depth import StochasticDepth
from keras_tfm.layers.sublayer_calls import Steps
from keras_tfm.layers.sublayer_connection import SublayerConnection, feed_forward_reads, norm_places

_NORM_NAMES = {"input": "_layer_norm", "stream": "_layer_norm", "output": "_output_layer_norm"}


class TransformerBlock(DirectCalls, KerasHubNames, keras.layers.Layer):
    """Base of `TransformerEncoder` and `TransformerDecoder`, which say what the arguments are."""

    first_weight, reads_training = "self_attention._query_dense.kernel", True

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
        placement=None,
        residual=None,
        stochastic_depth=0.0,
        use_bias=True,
        attention=None,
        num_layers=None,
        skip_padding=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        # Layers given as parts are templates: held in a namespace, they are not tracked as layers of this one.
        self._given = types.SimpleNamespace(
            normalization=resolve_config(normalization),
            position=resolve_config(position),
            feed_forward=resolve_config(feed_forward),
            residual=resolve_config(residual),
            attention=resolve_config(attention),
        )
        self.supports_masking = True
        self.intermediate_dim = intermediate_dim
        self.num_heads = getattr(self._given.attention, "num_heads", None) if num_heads is None else num_heads
        self.dropout = dropout
        self.activation = get_activation(activation)
        self.layer_norm_epsilon = layer_norm_epsilon
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.normalize_first = normalize_first
        self.attention_dropout = attention_dropout
        self.activation_dropout = activation_dropout
        self.num_key_value_heads = num_key_value_heads
        self.placement = placement
        self.stochastic_depth = stochastic_depth
        self.use_bias = use_bias
        self.num_layers = num_layers
        self.skip_padding = skip_padding
        self._check_arguments()
        self._placement = block_arguments.resolve_placement(placement, normalize_first, self._given.residual)

    def _check_arguments(self):
        given = self._given
        if self.intermediate_dim is not None or not isinstance(given.feed_forward, keras.layers.Layer):
            block_arguments.check_size("intermediate_dim", self.intermediate_dim)
        if self.num_heads is not None or given.attention is None:
            block_arguments.check_size("num_heads", self.num_heads)
        block_arguments.check_rates(
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            activation_dropout=self.activation_dropout,
            stochastic_depth=self.stochastic_depth,
        )
        block_arguments.check_name("normalization", given.normalization, {*NORMALIZATIONS, "none"})
        block_arguments.check_residual(given.residual)
        block_arguments.check_attention(
            given.attention,
            num_heads=self.num_heads,
            position=given.position,
            num_key_value_heads=self.num_key_value_heads,
            attention_dropout=self.attention_dropout,
        )
        block_arguments.check_feed_forward(
            given.feed_forward, self.intermediate_dim, self.activation, self.activation_dropout
        )
        block_arguments.check_skip_padding(
            self.skip_padding, given.normalization, given.feed_forward, self.stochastic_depth
        )

    @property
    def normalization(self):
        """What was given as `normalization`."""
        return self._given.normalization

    @property
    def leaves_stream_unnormalized(self):
        """Whether a stack of such blocks ends without a normalization."""
        return "stream" not in norm_places(self._placement, "self_attention")

    def given_parts(self):
        """What was given for the parts, by the names of the arguments; configs have become layers."""
        return vars(self._given)

    def _residual_template(self):
        return get_part("residual", self._given.residual, {**block_arguments.RESIDUALS, "deepnorm": self._deep_norm})

    def _deep_norm(self):
        if self.num_layers is None:
            raise ValueError(
                "`residual='deepnorm'` needs `num_layers`, the number of blocks in a row; a stack knows it. "
                "Received: num_layers=None"
            )
        return self._deep_norm_of(self.num_layers)

    @property
    def _gain(self):
        return getattr(self._residual_template(), "initial_gain", 1.0)

    def _make_attention(self, template, name, query_shape, value_shape, position=None):
        if template is None:
            layer = make_attention(
                self.num_heads,
                query_shape[-1],
                self._gain,
                dropout=self.dropout if self.attention_dropout is None else self.attention_dropout,
                use_bias=self.use_bias,
                kernel_initializer=clone_initializer(self.kernel_initializer),
                bias_initializer=clone_initializer(self.bias_initializer),
                num_key_value_heads=self.num_key_value_heads,
                position=position,
                dtype=self.dtype_policy,
                name=name,
            )
        else:
            layer = copy_attention(template, position, dtype=self.dtype_policy, name=name)
        layer.build(query_shape, value_shape)
        return layer

    def _make_feed_forward(self, shape):
        layer = make_feed_forward(
            self._given.feed_forward,
            self.activation,
            self.dtype_policy,
            "feed_forward",
            intermediate_dim=self.intermediate_dim,
            dropout=self.activation_dropout,
            use_bias=self.use_bias,
            kernel_initializer=make_initializer(self.kernel_initializer, self._gain),
            bias_initializer=self.bias_initializer,
        )
        layer.build(shape)
        return layer

    def _make_norm(self, name, shape):
        norm = make_normalization(self._given.normalization, self.layer_norm_epsilon, self.dtype_policy, name)
        norm.build(shape)
        return norm

    def _make_residual(self, name, shape):
        residual = clone_part(self._residual_template(), dtype=self.dtype_policy, name=name)
        if residual is not None and not residual.built:
            residual.build(shape, shape)
        return residual

    def _connect(self, sublayer, shape):
        """Makes what joins a sub-layer to the stream, as attributes named after it, and returns the connection."""
        label = sublayer.replace("feed_forward", "feedforward")  # as `keras_hub` names the layers
        places = () if self.normalization == "none" else norm_places(self._placement, sublayer)
        norms = {place: self._make_norm(f"{label}{_NORM_NAMES[place]}", shape) for place in places}
        parts = {
            "norm": norms.get("input", norms.get("stream")),
            "output_norm": norms.get("output"),
            "dropout": Dropout(self.dropout, dtype=self.dtype_policy, name=f"{label}_dropout"),
            "stochastic_depth": self._make_stochastic_depth(f"{label}_stochastic_depth"),
            "residual": self._make_residual(f"{label}_residual", shape),
        }
        for name, part in parts.items():
            setattr(self, f"{sublayer}_{name}", part)
        return SublayerConnection(
            before=[norms.get("input")],
            after=[norms.get("output"), parts["dropout"] if self.dropout else None, parts["stochastic_depth"]],
            residual=parts["residual"],
            end=[norms.get("stream")],
        )

    def _make_stochastic_depth(self, name):
        rate = self.stochastic_depth
        return StochasticDepth(rate, dtype=self.dtype_policy, name=name) if rate else None

    def _build_self_attention(self, shape, name):
        given = self._given
        self.self_attention = self._make_attention(given.attention, name, shape, shape, given.position)
        self.self_attention_connection = self._connect("self_attention", shape)

    def _build_feed_forward(self, shape):
        self.feed_forward = self._make_feed_forward(shape)
        self._feed_forward_steps = Steps([self.feed_forward])
        self._feed_forward_reads = feed_forward_reads(self._placement)

    def _real_tokens(self, mask, x):
        """The `RealTokens` that parts are computed of, or `None` for all tokens."""
        return RealTokens.of(mask, x) if self.skip_padding else None

    def _tokens_of_block(self, mask, x, attentions, *unpacked):
        """As `_real_tokens`, for the whole block; `None` also where one of the arguments `unpacked` was given."""
        is_given = any(argument is not None and argument is not False for argument in unpacked)
        tokens = None if is_given else self._real_tokens(mask, x)
        in_runs = tokens is not None and all(attends_in_runs(layer, tokens.length) for layer in attentions)
        return tokens if in_runs else None

    def _feed_forward_update(self, sources, mask, training):
        """The stream after the feed-forward network; `sources` are what it may read, by `FEED_FORWARD_READS`."""
        stream, source = sources["stream"], sources[self._feed_forward_reads]
        tokens = self._real_tokens(mask, stream)
        if tokens is not None:
            packed = tokens.pack(stream)
            source = packed if source is stream else tokens.pack(source)
            return tokens.unpack(self._with_feed_forward(packed, source, None, training))
        x = self._with_feed_forward(stream, source, mask, training)
        return backend.zeroed(x, mask[..., None]) if self.skip_padding and mask is not None else x

    def _with_feed_forward(self, stream, source, mask, training):
        connection = self.feed_forward_connection
        update = self._feed_forward_steps(connection.read(source, mask, training), mask, training)
        return connection.write(stream, update, mask, training)

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
            "placement": self.placement,
            "stochastic_depth": self.stochastic_depth,
            "use_bias": self.use_bias,
            "num_layers": self.num_layers,
            "skip_padding": self.skip_padding,
            **{name: serialize_part(part) for name, part in self.given_parts().items()},
        }
