"""A convolution over neighbouring tokens in place of self-attention."""

import keras
from keras import ops

from keras_tfm.layers.activations import get_activation
from keras_tfm.layers.block_arguments import check_size
from keras_tfm.layers.parts import clone_initializer
from keras_tfm.layers.token_mixer import TokenMixer

CONVOLUTIONS = ("full", "separable")
PADDINGS = ("same", "causal")


@keras.saving.register_keras_serializable(package="keras_tfm")
class ConvolutionalMixer(TokenMixer):
    """Mixes each token with its neighbours by a one-dimensional convolution.

    It is called as self-attention is, so that it serves as the `attention` of a `TransformerEncoder`.

    Args:
        kernel_size: k, how many tokens are mixed. Defaults to 3.
        dilation_rate: how many places lie from one of them to the next. Defaults to 1.
        padding: `"same"`, with as many tokens before as after (one more after if k is even), or `"causal"`, with none
            after. Defaults to `"same"`.
        convolution: `"full"`, or `"separable"`: each feature over the tokens first, then the features of each token.
            Defaults to `"full"`.
        gate: `None`, or the activation of a gate: the convolution has twice as many features then, and one half is
            multiplied by the activation of the other; `"sigmoid"` is the gated linear unit of ConvS2S.
        kernel_initializer, bias_initializer: of the convolution. Default to `"glorot_uniform"` and `"zeros"`.
        use_bias: whether it has a bias. Defaults to `True`.
        **kwargs: `keras.layers.Layer` arguments.

    Call arguments:
        inputs: float `[B, T, D]`.
        value: `None`, or `inputs` again, as self-attention takes them.
        padding_mask, query_mask, value_mask, mask, inputs_mask: bool `[B, T]`, True at real tokens; all of them apply.
        training: taken as attention takes it; the layer draws nothing.
        attention_mask, segment_ids, query_positions, return_attention_scores: must stay at their defaults.

    Returns:
        float `[B, T, D]`.

    Masking:
        Padding counts as zero, as what lies beyond the ends does.

    Raises:
        ValueError: a size or a name that there is not; what needs pairs of tokens is given.

    Reference:
        Gehring et al. 2017 (ConvS2S), section 3.2; Kaiser et al. 2018 (separable); Vaswani et al. 2017, section 4.

    Example:

    >>> import keras
    >>> mixer = ConvolutionalMixer(kernel_size=5, gate="sigmoid")
    >>> tuple(mixer(keras.random.normal((2, 7, 8))).shape)
    (2, 7, 8)
    """

    def __init__(
        self,
        kernel_size=3,
        *,
        dilation_rate=1,
        padding="same",
        convolution="full",
        gate=None,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        use_bias=True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_size("kernel_size", kernel_size)
        check_size("dilation_rate", dilation_rate)
        for argument, name, names in (("padding", padding, PADDINGS), ("convolution", convolution, CONVOLUTIONS)):
            if name not in names:
                raise ValueError(f"`{argument}` must be one of {sorted(names)}. Received: {argument}={name!r}")
        self.kernel_size = kernel_size
        self.dilation_rate = dilation_rate
        self.padding = padding
        self.convolution = convolution
        self.gate = None if gate is None else get_activation(gate)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.use_bias = use_bias

    def build(self, inputs_shape, value_shape=None):
        """Makes the convolution for inputs `[B, T, D]`."""
        width = inputs_shape[-1]
        make, kernels = keras.layers.Conv1D, ["kernel_initializer"]
        if self.convolution == "separable":
            make, kernels = keras.layers.SeparableConv1D, ["depthwise_initializer", "pointwise_initializer"]
        self.projection = make(
            width if self.gate is None else 2 * width,
            self.kernel_size,
            dilation_rate=self.dilation_rate,
            use_bias=self.use_bias,
            bias_initializer=clone_initializer(self.bias_initializer),
            dtype=self.dtype_policy,
            name="projection",
            **{kernel: clone_initializer(self.kernel_initializer) for kernel in kernels},
        )
        self.projection.build((None, None, width))

    def mix(self, x, real, training):
        """The convolution, and its gate if it has one."""
        beyond = (self.kernel_size - 1) * self.dilation_rate
        before = beyond if self.padding == "causal" else beyond // 2
        x = self.projection(ops.pad(x, ((0, 0), (before, beyond - before), (0, 0))))
        if self.gate is None:
            return x
        x, gate = ops.split(x, 2, axis=-1)
        return x * self.gate(gate)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "dilation_rate": self.dilation_rate,
            "padding": self.padding,
            "convolution": self.convolution,
            "gate": None if self.gate is None else keras.activations.serialize(self.gate),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "use_bias": self.use_bias,
        }
