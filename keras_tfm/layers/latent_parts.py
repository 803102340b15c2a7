"""The parts of latent attention: its rotation, its compressions, and kernels that can be moved past each other."""

import functools

import keras
from keras import ops

from keras_tfm.layers.parts import clone_initializer, get_part
from keras_tfm.layers.rotary_embedding import RotaryEmbedding
from keras_tfm.ops.attention import attention
from keras_tfm.ops.latent_cache import LatentCache


def get_rotation(value, rotary_dim, dtype):
    """A position method that only rotates, or `None`; see `get_part`."""
    position = get_part("position", value, {"rope": functools.partial(RotaryEmbedding, dtype=dtype)})
    if position is None:
        return None
    if position.overrides("bias") or position.overrides("value_bias"):
        raise ValueError(
            "`position` must rotate and do nothing else: the shared rotary key carries all of it. "
            f"Received: position={position}"
        )
    position.check_heads(rotary_dim)
    return position


def make_dense(layer, name, shape, units):
    """A built dense layer, configured as `layer` is."""
    dense = keras.layers.Dense(
        units,
        use_bias=layer.use_bias,
        kernel_initializer=clone_initializer(layer.kernel_initializer),
        bias_initializer=clone_initializer(layer.bias_initializer),
        dtype=layer.dtype_policy,
        name=name,
    )
    dense.build(shape)
    return dense


def check_latent_cache(cache, index, latent_dim, rotary_dim):
    """Raises `ValueError` for a cache that does not fit, and for a place in none."""
    if cache is None and index is not None:
        raise ValueError(
            "`cache_update_index` should not be set if `cache` is `None`. "
            f"Received: cache=None, cache_update_index={index}"
        )
    if cache is not None:
        LatentCache(*cache).check_sizes(latent_dim, rotary_dim)


def with_heads(mask):
    """A mask of pairs `[B, T, S]` or `[B, N, T, S]` as bool `[B, 1 or N, T, S]`; `None` stays."""
    if mask is None:
        return None
    mask = ops.cast(mask, "bool")
    return mask if len(mask.shape) == 4 else ops.expand_dims(mask, 1)


def attend_in_full(query, memory, key_up, value_up, **options):
    """Writes out keys and values of every head: the fewest products where queries are many.

    Args:
        query: `([B, T, N, H], [B, T, N, Hr])`, the parts without and with position.
        memory: a `LatentCache`.
        key_up, value_up: the dense layers from latents to heads.
        **options: as `attention` takes them.

    Returns:
        `(heads [B, T, N, Hv], scores or None)`.
    """
    keys, values = key_up(memory.latent), value_up(memory.latent)
    rotary_key = ops.expand_dims(memory.rotary_key, 2)
    shared = ops.broadcast_to(rotary_key, (*ops.shape(keys)[:3], rotary_key.shape[-1]))
    return attention(ops.concatenate(query, axis=-1), ops.concatenate([keys, shared], axis=-1), values, **options)


def attend_absorbed(query, memory, key_up, value_up, **options):
    """The latent as key and value of one head that all queries share: `q · (W c) = (Wᵀ q) · c`. As above."""
    content, rotary = query
    content = ops.einsum("btnh,rnh->btnr", content, effective_kernel(key_up))
    keys = ops.expand_dims(ops.concatenate(memory, axis=-1), 2)
    values = ops.expand_dims(memory.latent, 2)
    heads, scores = attention(ops.concatenate([content, rotary], axis=-1), keys, values, **options)
    return ops.einsum("btnr,rnh->btnh", heads, effective_kernel(value_up)), scores


def effective_kernel(dense):
    """The matrix `[R, N, H]` that a projection of latents to heads multiplies with, its LoRA included.

    A quantized kernel is what the projection makes of the unit vectors.
    """
    if dense.quantization_mode is None:
        return ops.cast(dense.kernel, dense.compute_dtype)
    unit_vectors = ops.eye(dense.kernel.shape[0], dtype=dense.compute_dtype)
    return dense(ops.expand_dims(unit_vectors, 0))[0]
