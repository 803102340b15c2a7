"""The configurations of blocks that the laws are tried on: every placement, residual, normalization and network."""

import numpy as np

from keras_tfm.layers.mixture_of_experts import MixtureOfExperts
from keras_tfm.layers.multi_head_attention import MultiHeadAttention
from tests.layers.block_oracle import EPSILON
from tests.numerics import randomize

B, T, S, D, N, F = 2, 5, 7, 6, 3, 11
RNG = np.random.default_rng(0)
X, MEMORY = (RNG.normal(size=(B, length, D)).astype("float32") for length in (T, S))
REAL, REAL_MEMORY = np.arange(T) < [[3], [5]], np.arange(S) >= [[2], [0]]

SEQUENTIAL = {
    "post": {},
    "pre, rotary": {"normalize_first": True, "position": "rope"},
    "sandwich, RMS, SwiGLU, no bias": dict(
        placement="sandwich", normalization="rms", feed_forward="swiglu", use_bias=False
    ),
    "output, RMS": {"placement": "output", "normalization": "rms"},
    "DeepNorm": {"residual": "deepnorm", "num_layers": 7},
    "ReZero without norm": {"residual": "rezero", "normalization": "none"},
    "LayerScale, sandwich": {"residual": "layer_scale", "placement": "sandwich"},
    "batch norm, post": {"normalization": "batch"},
    "batch norm, pre": {"normalization": "batch", "placement": "pre"},
    "experts, pre": {"feed_forward": MixtureOfExperts(5, F, z_coefficient=0.01), "placement": "pre"},
    "attention given": {"attention": MultiHeadAttention(N, 4, value_dim=5), "placement": "pre"},
}
PARALLEL = {
    "parallel": {"placement": "parallel"},
    "parallel, two norms, LayerScale": {"placement": "parallel_two_norms", "residual": "layer_scale"},
    "parallel, ReZero, RMS, experts": dict(
        placement="parallel", residual="rezero", normalization="rms", feed_forward=MixtureOfExperts(5, F)
    ),
}
ALL = {**SEQUENTIAL, **PARALLEL}


def make(block_class, configuration, **options):
    """A block of the configuration, not built."""
    arguments = {"layer_norm_epsilon": EPSILON, **ALL[configuration], **options}
    sizes = (None if isinstance(arguments.get("feed_forward"), MixtureOfExperts) else F, N)
    return block_class(*sizes, **arguments)


def made(block_class, configuration, *shapes, seed=0, **options):
    """A block of the configuration, built for the shapes, with random weights; moving statistics too."""
    layer = make(block_class, configuration, **options)
    layer.build(*shapes)
    layer.built = True
    rng = np.random.default_rng(1)
    for variable in layer.non_trainable_variables:
        if "moving" in variable.path:
            variable.assign(rng.uniform(0.5, 2, variable.shape))
    return randomize(layer, seed)


def exceptions(configuration):
    """What `check_layer` must not ask of a configuration."""
    zero = ["key/bias"]  # which moves all logits of a row alike
    if "batch norm, post" in configuration:
        zero += ["value/bias", "attention_output/bias", "output_dense/bias"]  # which the batch's mean takes away
    skip = ["arguments"]  # what blocks take beyond their config is in `**kwargs`
    if "experts" in configuration:
        skip.append("policies")  # rounding may make other experts the likeliest
    return {"zero_gradients": tuple(zero), "skip": skip}
