"""Pure functions of tensors: attention and its kernels, masks, positions, caches."""

from keras_tfm.ops.attention import attention, explain_attention, kernels, observe_attention, use_kernel
from keras_tfm.ops.attention_request import AttentionRequest, ScoreDropout
from keras_tfm.ops.kv_cache import KVCache
from keras_tfm.ops.linear_cross_entropy import linear_cross_entropy
from keras_tfm.ops.loop_cache import LoopCache, in_loop_form
from keras_tfm.ops.mask_patterns import (
    BlockLayout,
    Blocks,
    Causal,
    Dilated,
    FirstKeys,
    FirstQueries,
    MaskPattern,
    SlidingWindow,
)
from keras_tfm.ops.masks import AttentionMask
from keras_tfm.ops.positions import rotate, sinusoid
from keras_tfm.ops.quantized_cache import QuantizedKVCache
from keras_tfm.ops.rolling_cache import RollingKVCache

__all__ = [
    "AttentionMask",
    "AttentionRequest",
    "BlockLayout",
    "Blocks",
    "Causal",
    "Dilated",
    "FirstKeys",
    "FirstQueries",
    "KVCache",
    "LoopCache",
    "MaskPattern",
    "QuantizedKVCache",
    "RollingKVCache",
    "ScoreDropout",
    "SlidingWindow",
    "attention",
    "explain_attention",
    "in_loop_form",
    "kernels",
    "linear_cross_entropy",
    "observe_attention",
    "rotate",
    "sinusoid",
    "use_kernel",
]
