"""Mixture of experts: many feed-forward networks, a few of which compute each token."""

import math

import keras
from keras import ops

from keras_tfm.layers.activations import get_activation
from keras_tfm.layers.attention_masks import without_padding
from keras_tfm.layers.block_arguments import FEED_FORWARDS, check_name, check_rates, check_size
from keras_tfm.layers.expert_feed_forward import ExpertFeedForward
from keras_tfm.layers.expert_routing import balance_loss, choose_experts, first_tokens, router_z_loss
from keras_tfm.layers.parts import clone_initializer

ROUTINGS = ("softmax_top_k", "top_k_softmax")


@keras.saving.register_keras_serializable(package="keras_tfm")
class MixtureOfExperts(keras.layers.Layer):
    """E feed-forward networks and a router that sends each token to k of them: `Σₑ gₑ(x) FFNₑ(x)`.

    For a block's `feed_forward=`. The router is a linear map; its softmax gives the weights g of the k experts.

    Args:
        num_experts: E, at least 2.
        intermediate_dim: F of each expert.
        top_k: k, how many experts compute a token. Defaults to 2.
        feed_forward: what an expert is: `None` for two dense layers with `activation` between them, or a gated network:
            `"swiglu"`, `"geglu"`, `"reglu"`, `"glu"`, `"bilinear"`, or `"gated"` with `activation`.
        activation: name or function. Defaults to `"relu"`.
        routing: `"top_k_softmax"`, softmax over the k logits, which is the softmax over all and then the k largest,
            renormalized (Mixtral); `"softmax_top_k"`, softmax over all and the k largest as they are (Switch). `None`
            is the first for k > 1 and the second for k = 1, where the first would be constant.
        balance_coefficient: weight of the load-balancing loss. Defaults to 0.01.
        z_coefficient: weight of the router's z-loss. Defaults to 0.
        jitter: ε: in training the router's input is multiplied by uniform noise from [1 - ε, 1 + ε]. Defaults to 0.
        capacity_factor: `None` computes each token by all experts and keeps the k chosen: exact. A number gives each
            expert, in training, room for `k · tokens / E` times it; who comes later in the batch is left out, which
            saves time and memory. Inference is always exact.
        dropout: rate in [0, 1) on the inner activations. Defaults to 0.
        use_bias: whether experts have biases. Defaults to `True`.
        kernel_initializer, bias_initializer: of experts and router.
        seed: of dropout and jitter.
        **kwargs: `keras.layers.Layer` arguments.

    Call arguments:
        inputs: float `[..., D]`.
        training: whether losses are added, and dropout, jitter and capacity apply.
        mask: bool `[...]`, True at real tokens; filled from the inputs' implicit mask.

    Returns:
        float `[..., D]`; zeros at padding.

    Masking:
        Padding is sent to no expert, takes no room, and is in no loss; the mask goes on to the output.

    Numerics:
        Router, weights and losses are float32 under every dtype policy. Without a capacity, training keeps E · F
        activations a token.

    Raises:
        ValueError: k greater than E; a routing that cannot train the router; sizes and rates out of range.

    Reference:
        Shazeer et al. 2017, equations 1 to 4; Fedus et al. 2021 (Switch: routing, balance, capacity); Zoph et al. 2022
        (z-loss); Jiang et al. 2024 (Mixtral), section 2.1.

    Example:

    >>> import keras
    >>> layer = MixtureOfExperts(num_experts=4, intermediate_dim=32, feed_forward="swiglu", use_bias=False)
    >>> tuple(layer(keras.random.normal((2, 5, 8)), training=True).shape), len(layer.losses)
    ((2, 5, 8), 1)
    """

    def __init__(
        self,
        num_experts,
        intermediate_dim,
        top_k=2,
        *,
        feed_forward=None,
        activation="relu",
        routing=None,
        balance_coefficient=0.01,
        z_coefficient=0.0,
        jitter=0.0,
        capacity_factor=None,
        dropout=0.0,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        for argument, size in (("num_experts", num_experts), ("intermediate_dim", intermediate_dim), ("top_k", top_k)):
            check_size(argument, size)
        check_rates(dropout=dropout, jitter=jitter)
        check_name("feed_forward", feed_forward, FEED_FORWARDS)
        if num_experts < 2 or top_k > num_experts:
            raise ValueError(
                "`num_experts` must be at least 2 and `top_k` at most that. "
                f"Received: num_experts={num_experts}, top_k={top_k}"
            )
        if routing not in (None, *ROUTINGS):
            raise ValueError(f"`routing` must be None or one of {ROUTINGS}. Received: routing={routing!r}")
        if routing == "top_k_softmax" and top_k == 1:
            raise ValueError(
                "`routing='top_k_softmax'` makes the weight of one expert constant, so that the router learns nothing. "
                f"Received: routing={routing!r}, top_k=1"
            )
        if capacity_factor is not None and not capacity_factor > 0:
            raise ValueError(
                f"`capacity_factor` must be None or positive. Received: capacity_factor={capacity_factor!r}"
            )
        self.supports_masking = True
        self.num_experts = num_experts
        self.intermediate_dim = intermediate_dim
        self.top_k = top_k
        self.feed_forward = feed_forward
        self.activation = get_activation(activation)
        self.routing = routing
        self.balance_coefficient = balance_coefficient
        self.z_coefficient = z_coefficient
        self.jitter = jitter
        self.capacity_factor = capacity_factor
        self.dropout = dropout
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.seed = seed
        self._is_renormalized = (routing or ("top_k_softmax" if top_k > 1 else "softmax_top_k")) == "top_k_softmax"
        self._seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        """Makes the router and the experts for inputs `[..., D]`."""
        self.router_kernel = self.add_weight(
            name="router_kernel",
            shape=(input_shape[-1], self.num_experts),
            initializer=clone_initializer(self.kernel_initializer),
            autocast=False,
        )
        self.experts = ExpertFeedForward(
            self.num_experts,
            self.intermediate_dim,
            feed_forward=self.feed_forward,
            activation=self.activation,
            dropout=self.dropout,
            use_bias=self.use_bias,
            kernel_initializer=self.kernel_initializer,
            bias_initializer=self.bias_initializer,
            seed=self.seed,
            dtype=self.dtype_policy,
            name="experts",
        )
        self.experts.build((self.num_experts, None, input_shape[-1]))

    def call(self, inputs, training=None, mask=None):
        """Sends each token to its experts and adds up what they return."""
        tokens = ops.reshape(without_padding(inputs, mask), (-1, inputs.shape[-1]))
        is_real = ops.ones_like(tokens[:, :1], dtype="float32")
        if mask is not None:
            is_real = ops.cast(ops.reshape(mask, (-1, 1)), "float32")
        logits = ops.matmul(self._jittered(tokens, training), ops.cast(self.router_kernel, "float32"))
        weights, probabilities, is_chosen = choose_experts(logits, self.top_k, self._is_renormalized)
        if training:
            self._add_losses(logits, probabilities, is_chosen, is_real)
        compute = self._compute_all if self.capacity_factor is None or not training else self._compute_first
        outputs = compute(tokens, weights * is_real, is_chosen * is_real, training)
        return ops.reshape(outputs, ops.shape(inputs))

    def _jittered(self, tokens, training):
        tokens = ops.cast(tokens, "float32")
        if not training or not self.jitter:
            return tokens
        low, high = 1 - self.jitter, 1 + self.jitter
        return tokens * keras.random.uniform(ops.shape(tokens), low, high, "float32", self._seed_generator)

    def _add_losses(self, logits, probabilities, is_chosen, is_real):
        if self.balance_coefficient:
            self.add_loss(self.balance_coefficient * balance_loss(probabilities, is_chosen, is_real))
        if self.z_coefficient:
            self.add_loss(self.z_coefficient * router_z_loss(logits, is_real))

    def _compute_all(self, tokens, weights, is_chosen, training):
        """Every token by every expert, weighed: `[tokens, D]`."""
        each = ops.broadcast_to(tokens[None], (self.num_experts, *ops.shape(tokens)))
        outputs = self.experts(each, training=training)
        return ops.einsum("te,etd->td", ops.cast(weights, outputs.dtype), outputs)

    def _compute_first(self, tokens, weights, is_chosen, training):
        """Every expert computes the first tokens that chose it, as many as it has room for."""
        num_tokens = ops.shape(tokens)[0]
        capacity = self._capacity(num_tokens)
        places, is_there = first_tokens(is_chosen, capacity)
        outputs = self.experts(ops.take(tokens, places, axis=0), training=training)
        place_weights = is_there * ops.take_along_axis(ops.transpose(weights), places, axis=1)
        outputs = outputs * ops.cast(place_weights[..., None], outputs.dtype)
        outputs = ops.reshape(outputs, (-1, tokens.shape[-1]))
        return ops.segment_sum(outputs, ops.reshape(places, (-1,)), num_segments=num_tokens)

    def _capacity(self, num_tokens):
        share = self.capacity_factor * self.top_k / self.num_experts
        if isinstance(num_tokens, int):
            return min(num_tokens, math.ceil(share * num_tokens))
        return ops.minimum(num_tokens, ops.cast(ops.ceil(share * ops.cast(num_tokens, "float32")), "int32"))

    def compute_output_shape(self, input_shape):
        """As the inputs."""
        return tuple(input_shape)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_experts": self.num_experts,
            "intermediate_dim": self.intermediate_dim,
            "top_k": self.top_k,
            "feed_forward": self.feed_forward,
            "activation": keras.activations.serialize(self.activation),
            "routing": self.routing,
            "balance_coefficient": self.balance_coefficient,
            "z_coefficient": self.z_coefficient,
            "jitter": self.jitter,
            "capacity_factor": self.capacity_factor,
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "seed": self.seed,
        }
