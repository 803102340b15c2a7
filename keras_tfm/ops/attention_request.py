"""AttentionRequest: all that a kernel needs to know, and what several kernels derive from it."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from keras import ops

from keras_tfm.ops.dropout import dropout, keep_factors, keep_signs
from keras_tfm.ops.masks import AttentionMask
from keras_tfm.ops.placed_dropout import place_dropout
from keras_tfm.ops.request_cuts import part_of_mask


@dataclasses.dataclass(frozen=True)
class ScoreDropout:
    """Dropout on the scores.

    Args:
        apply: function of scores that returns them with some dropped and the others scaled up.
        rate: the rate, if it is known.
        is_seeded: whether no kernel may draw by itself instead, from the backend's global generator.
        seed_generator: what `apply` draws from, by `keras_tfm.ops.dropout`; `None` if only `apply` knows.
    """

    apply: Callable
    rate: float | None = None
    is_seeded: bool = True
    seed_generator: Any = None

    @classmethod
    def of(cls, rate, seed_generator, seed):
        """That of a layer with this rate, generator and `seed` argument; `None` for a rate of 0."""
        if not rate:
            return None
        apply = functools.partial(dropout, rate=rate, seed_generator=seed_generator)
        return cls(apply, rate, is_seeded=seed is not None, seed_generator=seed_generator)

    @property
    def has_mask(self):
        """Whether a kernel can draw the mask by itself, or part by part."""
        return self.seed_generator is not None and self.rate < 1

    def keep_signs(self, shape, like):
        """1 for scores that stay, -1 for others; see `keras_tfm.ops.dropout.keep_signs`."""
        return keep_signs(shape, self.rate, self.seed_generator, like)

    def keep_factors(self, shape, like):
        """What to multiply scores by; see `keras_tfm.ops.dropout.keep_factors`."""
        return keep_factors(shape, self.rate, self.seed_generator, like)

    def place(self, shape):
        """The `PlacedDropout` of the shape `(B, N, T, S)` of all scores; on JAX and TensorFlow of the same mask."""
        return place_dropout(shape, self.rate, self.seed_generator)


@dataclasses.dataclass(frozen=True)
class AttentionRequest:
    """Heads `[B, T, N, H]`, `[B, S, K, H]`, `[B, S, K, Hv]`, and how to attend: see `attention`.

    `is_part` says that it was cut from another request, which observers have seen.
    """

    query: Any
    key: Any
    value: Any
    mask: AttentionMask
    biases: tuple = ()
    scale: float = 1.0
    logit_soft_cap: float | None = None
    dropout: ScoreDropout | None = None
    return_scores: bool = False
    score: Callable | None = None
    sink: Any = None
    mixing: Any = None
    value_bias: Callable | None = None
    has_finite_keys: bool = False
    has_heads_apart: bool = False
    origins: Any = None
    label: str | None = None
    is_part: bool = False

    @property
    def query_length(self):
        """T: an int where it is known, else a scalar tensor."""
        return ops.shape(self.query)[1]

    @property
    def key_length(self):
        """S: an int where it is known, else a scalar tensor."""
        return ops.shape(self.key)[1]

    @property
    def positions(self):
        """int `[T]` or `[B, T]` of the queries, `[S]` or `[B, S]` of the keys."""
        return self.mask.positions(self.query_length, self.key_length)

    @property
    def is_plain_causal(self):
        """Whether causality from position 0 is all there is, so that a kernel's own causal mode applies."""
        mask = self.mask
        return (
            mask.is_causal and mask.starts_together and mask.is_only("is_causal", "query_padding") and not self.biases
        )

    @functools.cached_property
    def live_rows(self):
        """bool, broadcastable to `[B, N, T]`, False at queries with nothing to attend to; `None` if there are none."""
        return self.mask.live_rows(self.query_length, self.key_length)

    def part_of_mask(self, rows, queries, keys):
        """What queries of a part may attend to, for slices of the batch, of T and of S: see `materialize`."""
        part = part_of_mask(self.mask, (self.query_length, self.key_length), rows, queries, keys)
        return part.materialize(queries.stop - queries.start, keys.stop - keys.start)

    def bias(self):
        """The sum of all biases, broadcastable to `[B, N, T, S]`, in float32; `None` if there are none."""
        total = None
        for bias in self.biases:
            if callable(bias):
                bias = bias(self.query, self.key, *self.positions)
            if bias is not None:
                bias = ops.cast(bias, "float32")
                total = bias if total is None else total + bias
        return total
