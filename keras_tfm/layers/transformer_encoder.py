"""One block of the Transformer's encoder."""

import keras

from keras_tfm.layers.attention_masks import all_of
from keras_tfm.layers.block_specs import block_spec
from keras_tfm.layers.deep_norm import DeepNorm
from keras_tfm.layers.sublayer_calls import attend, real_tokens
from keras_tfm.layers.transformer_block import TransformerBlock


@keras.saving.register_keras_serializable(package="keras_tfm")
class TransformerEncoder(TransformerBlock):
    """Self-attention and a feed-forward network, each with a residual connection and a normalization.

    A drop-in superset of `keras_hub.layers.TransformerEncoder`; weights saved by it load.

    Args:
        intermediate_dim: F, the inner size of the feed-forward network; may be `None` if `feed_forward` is a layer.
        num_heads: N; it must divide the width D of the inputs. May be `None` if `attention` is a layer.
        dropout: rate in [0, 1) on each sub-layer's output, before the residual; also on the scores unless
            `attention_dropout` is given.
        activation: of the feed-forward network, as in `FeedForward`. Defaults to `"relu"`.
        layer_norm_epsilon: added to the variance. Defaults to 1e-5.
        kernel_initializer, bias_initializer: of all projections.
        normalize_first: pre-norm (`x + f(norm(x))`) if `True`, post-norm (`norm(x + f(x))`, the paper's) if `False`.
        attention_dropout: rate on the scores; `None` means `dropout`.
        activation_dropout: rate on the feed-forward activations. Defaults to 0.
        num_key_value_heads: K, as in `MultiHeadAttention`.
        position: relative positions, as in `MultiHeadAttention`. A layer is shared, not copied.
        normalization: `"layer"`, `"rms"`, `"batch"` (statistics of the real tokens), `"none"`, or a layer to copy.
        feed_forward: `None` for `FeedForward`, `"swiglu"`, `"geglu"`, `"reglu"`, `"glu"`, `"bilinear"` or `"gated"`
            (with `activation`) for `GatedFeedForward`, or a layer to copy that maps `[B, T, D]` to itself, as
            `MixtureOfExperts`.
        placement: where the norms stand: `"post"`, `"pre"`, `"sandwich"` (on input and output of a sub-layer),
            `"output"` (on its output, before the sum), `"parallel"` (attention and feed-forward network read the same
            normalized input), `"parallel_two_norms"` (each with a norm of its own). `None` goes by `normalize_first`.
        residual: how an update joins the stream: `None` for a sum, `"deepnorm"`, `"rezero"`, `"layer_scale"`, or a
            `Residual` layer to copy.
        stochastic_depth: rate in [0, 1) at which an update is left out for a whole sequence in training. Defaults to
            0.
        use_bias: whether projections have biases. Defaults to `True`.
        attention: `None` for `MultiHeadAttention` by the arguments above, or a layer to copy with the same call, which
            then settles its heads, dropout and initializers itself.
        num_layers: number of blocks in a row, for `residual="deepnorm"`; stacks fill it in.
        skip_padding: leave padding out; the outputs are zeros there. PyTorch, not compiled, on a CPU, puts the real
            tokens into one row and computes those alone: a step is as much faster as tokens are fewer. Attention stays
            with its rows where these are short, where it is none of `MultiHeadAttention` by plain products, where
            `attention_mask`, `segment_ids` or scores are in the call, and with dropout in half precision. Elsewhere
            zeros take the place of what was computed. It needs parts that treat each token by itself. Defaults to
            `False`: the outputs at padding are what the weights make of it.
        **kwargs: `keras.layers.Layer` arguments.

    Call arguments:
        inputs: float `[B, T, D]`.
        padding_mask: bool `[B, T]`, True at real tokens.
        attention_mask: bool `[B, T, T]` or `[B, N, T, T]`, True where attention is allowed.
        training: whether dropout applies.
        return_attention_scores: also return the scores `[B, N, T, T]`.
        segment_ids: int `[B, T]`: tokens attend within their segment.
        positions: int `[T]` or `[B, T]`, where the tokens stand; `None` means 0 to T - 1.
        mask, inputs_mask: the implicit mask of `inputs`, filled in by Keras.

    Returns:
        `[B, T, D]`, or `([B, T, D], [B, N, T, T])`.

    Masking:
        Explicit and implicit masks all apply, and the implicit mask goes on to the output, through any number of
        blocks. Parts that take a mask (batch normalization, mixtures of experts) get that of the real tokens.

    Raises:
        ValueError: `num_heads` does not divide D; a mask does not fit; two arguments contradict each other.

    Reference:
        Vaswani et al. 2017, section 3.1; Xiong et al. 2020 (pre-norm); Ding et al. 2021 (sandwich); OLMo 2 2024,
        section 3.2 (output); Wang & Komatsuzaki 2021, GPT-J (parallel).

    Example:

    >>> import keras
    >>> block = TransformerEncoder(intermediate_dim=64, num_heads=4, placement="pre", feed_forward="swiglu")
    >>> tuple(block(keras.random.normal((2, 5, 32))).shape)
    (2, 5, 32)
    >>> block = TransformerEncoder(intermediate_dim=64, num_heads=4, skip_padding=True)
    >>> real = keras.ops.convert_to_tensor([[True, True, False]])
    >>> outputs = keras.ops.convert_to_numpy(block(keras.random.normal((1, 3, 32)), padding_mask=real))
    >>> (outputs != 0).any(-1).tolist()
    [[True, True, False]]
    """

    def build(self, inputs_shape):
        """Makes the parts for inputs `[B, T, D]`."""
        self._build_self_attention(inputs_shape, "self_attention_layer")
        # The connection, which has the norm, before the feed-forward network: the order of `keras_hub`'s weights.
        self.feed_forward_connection = self._connect("feed_forward", inputs_shape)
        self._build_feed_forward(inputs_shape)

    def _deep_norm_of(self, num_layers):
        return DeepNorm.of_encoder(num_layers)

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
        """Applies the block; see the class for arguments."""
        implicit_mask = all_of([mask, inputs_mask])
        real = real_tokens(implicit_mask, "padding_mask", padding_mask, inputs)
        of_pairs = attention_mask, segment_ids, return_attention_scores
        tokens = self._tokens_of_block(real, inputs, [self.self_attention], *of_pairs)
        if tokens is not None:
            places = dict(segment_ids=tokens.rows, positions=tokens.positions(positions))
            return tokens.unpack(self.call(tokens.pack(inputs), training=training, **places))
        read = self.self_attention_connection.read(inputs, real, training)
        update, scores, _ = attend(
            self.self_attention,
            read,
            read,
            query_mask=implicit_mask,
            value_mask=implicit_mask,
            padding_mask=padding_mask,
            attention_mask=attention_mask,
            segment_ids=segment_ids,
            query_positions=positions,
            training=training,
            return_attention_scores=return_attention_scores,
        )
        x = self.self_attention_connection.write(inputs, update, real, training)
        x = self._feed_forward_update({"inputs": inputs, "normalized": read, "stream": x}, real, training)
        return (x, scores) if return_attention_scores else x

    def compute_output_shape(self, inputs_shape):
        """`[B, T, D]`, as the inputs."""
        return tuple(inputs_shape)

    def compute_output_spec(
        self, inputs, padding_mask=None, attention_mask=None, training=None, return_attention_scores=False, **kwargs
    ):
        """The specification of the outputs, scores included."""
        scores = [(self.num_heads, None, inputs)] if return_attention_scores else []
        return block_spec(inputs, self.compute_dtype, scores)
