"""LatentCache: what latent attention keeps of past positions, in place of keys and values."""

from typing import Any, NamedTuple

from keras import ops

from keras_tfm.ops.kv_cache import KVCache


class LatentCache(NamedTuple):
    """Compressed keys and values, and the rotary keys that all heads share, by position.

    Every leaf is batch-first, so `ops.take(leaf, order, axis=0)` reorders it.

    Args:
        latent: float `[B, S, R]`, from which keys and values of all heads are made.
        rotary_key: float `[B, S, Hr]`, already turned to its position.

    Example:

    >>> cache = LatentCache.create(batch_size=2, length=8, latent_dim=16, rotary_dim=4)
    >>> tuple(cache.latent.shape), tuple(cache.rotary_key.shape)
    ((2, 8, 16), (2, 8, 4))
    """

    latent: Any
    rotary_key: Any

    @classmethod
    def create(cls, batch_size, length, latent_dim, rotary_dim, dtype="float32"):
        """An empty cache of `length` positions."""
        shape = (batch_size, length)
        return cls(ops.zeros((*shape, latent_dim), dtype), ops.zeros((*shape, rotary_dim), dtype))

    @property
    def key(self):
        """What stands for the keys: the latents `[B, S, R]`."""
        return self.latent

    @property
    def length(self):
        """S, how many positions fit."""
        return self.latent.shape[1]

    def check_sizes(self, latent_dim, rotary_dim):
        """Raises `ValueError` unless the cache holds latents and rotary keys of these sizes."""
        received = tuple(x.shape[-1] for x in self)
        if received != (latent_dim, rotary_dim):
            raise ValueError(
                f"`cache` must hold latents of size {latent_dim} and rotary keys of size {rotary_dim}. "
                f"Received: cache.latent.shape={tuple(self.latent.shape)}, "
                f"cache.rotary_key.shape={tuple(self.rotary_key.shape)}"
            )

    def key_positions(self, index, num_tokens):
        """Where the cached tokens stand: `None`, for 0 to S - 1."""
        return None

    def write(self, latent, rotary_key, index):
        """The cache with T new positions from position `index` on (an int or int32 scalar).

        Raises:
            ValueError: the T positions do not fit, as far as `index` and the sizes can be read.
        """
        as_heads = KVCache(*(ops.expand_dims(x, 2) for x in self))
        written = as_heads.write(ops.expand_dims(latent, 2), ops.expand_dims(rotary_key, 2), index)
        return LatentCache(*(ops.squeeze(x, 2) for x in written))
