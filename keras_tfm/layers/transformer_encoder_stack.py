"""N encoder blocks in a row and a final normalization: the encoder for those who don't want a loop."""

import keras

from keras_tfm.layers.attention_masks import all_of
from keras_tfm.layers.sublayer_calls import real_tokens
from keras_tfm.layers.transformer_encoder import TransformerEncoder
from keras_tfm.layers.transformer_stack import TransformerStack


@keras.saving.register_keras_serializable(package="keras_tfm")
class TransformerEncoderStack(TransformerStack):
    """N encoder blocks and a final normalization.

    Args:
        num_layers: L, how many blocks are passed through.
        intermediate_dim, num_heads, **block: as `TransformerEncoder` has them; every block gets the same. A `position`
            that is a layer is shared by all blocks. `stochastic_depth` is the last block's rate, those before have
            less, in proportion to their depth. `residual="deepnorm"` goes by `num_layers`.
        final_normalization: `"layer"`, `"rms"`, `"batch"`, a layer to copy, `"none"`; `None` means the blocks' own
            kind, or none if their placement is `"post"`.
        num_distinct_layers: how many of the blocks have weights of their own: L / k passes in a row share each of k
            blocks; 1 is ALBERT, `None` means L.
        layer_loop: `"unrolled"`, or `"scan"`: where the call is compiled on JAX and TensorFlow, the blocks are one loop
            with one body, which keeps compile time low for many of them. Weights, their names and files are the
            same; their values are copied into one array at each step. PyTorch, eager calls and calls with a cache run
            the blocks one after another. `"scan"` needs blocks that are alike: no `stochastic_depth` unless
            `num_distinct_layers` is 1, and a number of distinct layers that divides L.
        rematerialization: what of a block is computed again for the gradient, to keep less in memory: `None` for
            nothing; `"full"` for everything, only the inputs of blocks are kept; `"selective"` for everything but the
            products with weights (JAX, PyTorch). What was dropped at random is dropped again. Calls with a cache keep
            everything. Measured on JAX on a CPU, it saved memory with `layer_loop="scan"` only.

    Call arguments:
        inputs, padding_mask, attention_mask, training, return_attention_scores, segment_ids, positions, mask,
            inputs_mask: as `TransformerEncoder`.

    Returns:
        `[B, T, D]`; with scores `([B, T, D], list of L scores [B, N, T, T])`.

    Masking:
        As `TransformerEncoder`, in every block.

    Raises:
        ValueError: arguments contradict each other; in a call with `layer_loop="scan"`, the blocks have come to have
            different variables.

    Reference:
        Vaswani et al. 2017, section 3.1; Lan et al. 2020, ALBERT, section 3.1 (shared blocks); Huang et al. 2016,
        equation 4 (rates of stochastic depth); Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost"
        (rematerialization); Korthikanti et al. 2022, section 5 (selective).

    Example:

    >>> import keras
    >>> encoder = TransformerEncoderStack(num_layers=2, intermediate_dim=64, num_heads=4)
    >>> tuple(encoder(keras.random.normal((2, 5, 32))).shape)
    (2, 5, 32)
    """

    block_class = TransformerEncoder

    def build(self, inputs_shape):
        """Makes the blocks for inputs `[B, T, D]`."""
        for block in self.blocks:
            block.build(inputs_shape)
        self._build_final_norm(inputs_shape)

    def call(
        self,
        inputs,
        padding_mask=None,
        attention_mask=None,
        training=None,
        return_attention_scores=False,
        *,
        segment_ids=None,
        positions=None,
        mask=None,
        inputs_mask=None,
    ):
        """Applies the blocks in order."""
        arguments = {
            "padding_mask": padding_mask,
            "attention_mask": attention_mask,
            "training": training,
            "return_attention_scores": return_attention_scores,
            "segment_ids": segment_ids,
            "positions": positions,
            "mask": mask,
            "inputs_mask": inputs_mask,
        }
        x, outputs = self._call_blocks(inputs, arguments)
        real = real_tokens(all_of([mask, inputs_mask]), "padding_mask", padding_mask, inputs)
        x = self._end(x, real, training)
        return (x, [scores for (scores,) in outputs]) if return_attention_scores else x

    def compute_output_spec(self, inputs, *args, return_attention_scores=False, **kwargs):
        """The specification of the outputs, scores included."""
        spec = self.blocks[0].compute_output_spec(inputs, return_attention_scores=return_attention_scores)
        return (spec[0], [spec[1]] * self.num_layers) if return_attention_scores else spec

    def compute_output_shape(self, inputs_shape):
        """`[B, T, D]`, as the inputs."""
        return tuple(inputs_shape)
