"""Pure functions of tensors: attention and its kernels, masks, positions, caches."""

from keras_tfm.ops.attention import attention, explain_attention, kernels, use_kernel
from keras_tfm.ops.kv_cache import KVCache
from keras_tfm.ops.masks import AttentionMask
from keras_tfm.ops.positions import rotate, sinusoid

__all__ = ["AttentionMask", "KVCache", "attention", "explain_attention", "kernels", "rotate", "sinusoid", "use_kernel"]
