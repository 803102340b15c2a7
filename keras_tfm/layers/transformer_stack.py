"""What the stacks of encoder and decoder blocks share: the blocks, the final normalization, the configuration."""

import types

import keras

from keras_tfm import backend
from keras_tfm.layers.block_arguments import check_size
from keras_tfm.layers.block_function import Uncast
from keras_tfm.layers.parts import make_normalization, resolve_config, serialize_part
from keras_tfm.layers.rematerialization import call_rematerialized, check_rematerialization, rematerialize
from keras_tfm.layers.scanned_blocks import ScannedBlocks, check_layer_loop
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
        layer_loop="unrolled",
        rematerialization=None,
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
        check_layer_loop(layer_loop, num_layers, num_distinct_layers, block.get("stochastic_depth", 0.0))
        check_rematerialization(rematerialization)
        self.supports_masking = True
        self.layer_loop = layer_loop
        self.rematerialization = rematerialization
        self.num_layers = num_layers
        self.num_distinct_layers = num_distinct_layers
        self._given = types.SimpleNamespace(final_normalization=resolve_config(final_normalization), uncast=Uncast())
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

    def _call_blocks(self, x, arguments, arguments_of_passes=None):
        """Passes `x [B, T, D]` through all blocks.

        Args:
            x: the stream.
            arguments: of all calls, by name.
            arguments_of_passes: list of L dicts of those that each pass has of its own, such as caches, or `None`.

        Returns:
            `(x, outputs)`: the stream, and for each pass a list of what else the block returned.
        """
        if arguments_of_passes is not None:  # a loop would copy all caches at each step of decoding
            return self._call_one_by_one(x, [{**arguments, **own} for own in arguments_of_passes], None)
        if self.layer_loop == "scan" and backend.is_traced():
            blocks = ScannedBlocks(self.blocks, self.num_layers, arguments, self.rematerialization)
            return self._given.uncast(x, function=lambda x: blocks(x, self))
        one_by_one = [arguments] * self.num_layers
        if self.rematerialization is None:
            return self._call_one_by_one(x, one_by_one, None)
        return self._given.uncast(x, function=lambda x: self._call_one_by_one(x, one_by_one, self.rematerialization))

    def _call_one_by_one(self, x, arguments, rematerialization):
        outputs = []
        for block, own in zip(self.passes, arguments, strict=True):
            if rematerialization is None:
                results = block(x, **own)
                x, *rest = results if isinstance(results, tuple) else (results,)
            else:
                x, rest = call_rematerialized(block, x, own, rematerialization, self)
            outputs.append(rest)
        return x, outputs

    @property
    def final_normalization(self):
        """What was given as `final_normalization`."""
        return self._given.final_normalization

    def _build_final_norm(self, shape):
        rematerialize(len, self.rematerialization)  # raises where the backend has no such kind
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
            "layer_loop": self.layer_loop,
            "rematerialization": self.rematerialization,
            "final_normalization": serialize_part(self.final_normalization),
        }
