"""What the stacks of encoder and decoder blocks share: the blocks, the final normalization, the configuration."""

import types

import keras

from keras_tfm.layers.block_arguments import check_size
from keras_tfm.layers.parts import make_normalization, resolve_config, serialize_part
from keras_tfm.layers.sublayer_calls import Steps

_OWN_CONFIG = ("name", "trainable", "dtype")


class TransformerStack(keras.layers.Layer):
    """Base of `TransformerEncoderStack` and `TransformerDecoderStack`, which say what the arguments are."""

    block_class = None

    def __init__(
        self,
        num_layers,
        intermediate_dim,
        num_heads,
        *,
        final_normalization=None,
        num_distinct_layers=None,
        name=None,
        dtype=None,
        trainable=True,
        **block,
    ):
        super().__init__(name=name, dtype=dtype, trainable=trainable)
        check_size("num_layers", num_layers)
        if num_distinct_layers is not None and num_distinct_layers not in range(1, num_layers + 1):
            raise ValueError(
                "`num_distinct_layers` must be None or from 1 to `num_layers`. "
                f"Received: num_distinct_layers={num_distinct_layers!r}, num_layers={num_layers}"
            )
        self.supports_masking = True
        self.num_layers = num_layers
        self.num_distinct_layers = num_distinct_layers
        self._given = types.SimpleNamespace(final_normalization=resolve_config(final_normalization))
        template = self.block_class(
            intermediate_dim, num_heads, num_layers=num_layers, dtype=self.dtype_policy, **block
        )
        self._block_config = {key: value for key, value in template.get_config().items() if key not in _OWN_CONFIG}
        self.blocks = self._make_blocks(template)

    def _make_blocks(self, template):
        """The distinct blocks. Layers given as parts are what each copies, or shares if it is a position method."""
        count = self.num_layers if self.num_distinct_layers is None else self.num_distinct_layers
        config = {**self._block_config, **template.given_parts(), "dtype": self.dtype_policy}
        rates = [template.stochastic_depth * (i + 1) / count for i in range(count)]
        return [
            self.block_class.from_config({**config, "stochastic_depth": rate, "name": f"block_{i}"})
            for i, rate in enumerate(rates)
        ]

    @property
    def passes(self):
        """The L blocks in the order in which they are applied; shared ones come several times."""
        return [self.blocks[i * len(self.blocks) // self.num_layers] for i in range(self.num_layers)]

    @property
    def final_normalization(self):
        """What was given as `final_normalization`."""
        return self._given.final_normalization

    def _build_final_norm(self, shape):
        block = self.blocks[0]
        kind = self.final_normalization
        if kind is None:
            kind = block.normalization if block.leaves_stream_unnormalized else "none"
        self.final_norm = None
        if kind != "none":
            self.final_norm = make_normalization(kind, block.layer_norm_epsilon, self.dtype_policy, "final_norm")
            self.final_norm.build(shape)
        self._end = Steps([self.final_norm])

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            **self._block_config,
            "num_layers": self.num_layers,
            "num_distinct_layers": self.num_distinct_layers,
            "final_normalization": serialize_part(self.final_normalization),
        }
