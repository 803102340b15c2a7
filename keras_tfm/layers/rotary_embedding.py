"""Rotary positions: queries and keys are turned by an angle that grows with their position."""

import numbers

import keras

from keras_tfm.layers.attention_position import AttentionPosition
from keras_tfm.layers.position_checks import check_choice, check_positive
from keras_tfm.ops.positions import rotate
from keras_tfm.ops.rotary_scaling import get_scaling, serialize_scaling


@keras.saving.register_keras_serializable(package="keras_tfm")
class RotaryEmbedding(AttentionPosition):
    """Rotary position embedding, for `MultiHeadAttention(position=...)`.

    The logit of a query and a key then depends on the distance between them and not on where they stand.

    Args:
        max_wavelength: longest wavelength, in positions over 2π. Defaults to 10,000.
        pairing: which features turn together: `"half"`, i and `i + R/2` (GPT-NeoX, Llama in the Transformers library),
            or `"interleaved"`, 2i and `2i + 1` (the paper, GPT-J, Llama's own code). Defaults to `"half"`.
        rotary_dim: R, how many features of each head turn, the first ones: an even int, or a float in (0, 1] for that
            share of H; `None` means all.
        scaling: for inputs longer than those of training: `None` or a dict with one of these `"type"`s.
            `{"type": "linear", "factor"}`: position interpolation.
            `{"type": "dynamic_ntk", "factor", "original_length", "length"}`: slows the slow pairs as the input grows.
            `{"type": "yarn", "factor", "original_length", "beta_fast", "beta_slow", "mscale", "attention_factor",
            "truncate"}`: YaRN; the temperature of the logits is in queries and keys.
            `{"type": "llama3", "factor", "original_length", "low_freq_factor", "high_freq_factor"}`: Llama 3.1.
            `keras_tfm.ops.rotary_scaling` says what each argument is; only factors and `original_length` must be given.
        **kwargs: `keras.layers.Layer` arguments.

    Raises:
        ValueError: a value that does not fit; R that is odd, or larger than the head.

    Numerics:
        Angles and turns are float32 whatever the policy, the angles exact for positions up to 16 million.
        `"dynamic_ntk"` without `length` takes the largest position + 1 of each row, at each call. Keys in a cache stay
        turned as they were when they were written, so that decoding past `original_length` differs from a full pass;
        give `length`, the longest there will be, to decode with a cache or to attend to other sequences.

    Reference:
        Su et al. 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding", equation 34; for the scalings
        see `keras_tfm.ops.rotary_scaling`.

    Example:

    >>> import keras, keras_tfm
    >>> position = RotaryEmbedding(scaling={"type": "llama3", "factor": 8.0, "original_length": 8192})
    >>> layer = keras_tfm.layers.MultiHeadAttention(num_heads=2, key_dim=8, position=position)
    >>> x = keras.random.normal((1, 5, 16))
    >>> tuple(layer(x, x).shape)
    (1, 5, 16)
    """

    def __init__(self, max_wavelength=10_000, pairing="half", rotary_dim=None, scaling=None, **kwargs):
        super().__init__(**kwargs)
        check_positive("max_wavelength", max_wavelength)
        check_choice("pairing", pairing, ("half", "interleaved"))
        _check_rotary_dim(rotary_dim)
        self.max_wavelength = max_wavelength
        self.pairing = pairing
        self.rotary_dim = rotary_dim
        self.scaling = get_scaling(scaling)

    def check_heads(self, key_dim):
        """Raises `ValueError` if the features that turn are not pairs within a head of `key_dim`."""
        turning = self._turning(key_dim)
        if turning % 2 and self.rotary_dim is None:
            raise ValueError(
                f"Rotary positions need an even `key_dim`: features turn in pairs. Received: key_dim={key_dim}"
            )
        if turning % 2 or not 0 < turning <= key_dim:
            raise ValueError(
                "`rotary_dim` must be an even number of features, at most `key_dim`, or a share that is one. "
                f"Received: rotary_dim={self.rotary_dim}, key_dim={key_dim}"
            )

    def _turning(self, key_dim):
        if self.rotary_dim is None:
            return key_dim
        return int(key_dim * self.rotary_dim) if isinstance(self.rotary_dim, float) else self.rotary_dim

    def rotate(self, heads, positions):
        """Turns `heads [B, T, N, H]` by `positions [T]` or `[B, T]`."""
        return rotate(
            heads,
            positions,
            self.max_wavelength,
            rotary_dim=self._turning(heads.shape[-1]),
            pairing=self.pairing,
            scaling=self.scaling,
        )

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "max_wavelength": self.max_wavelength,
            "pairing": self.pairing,
            "rotary_dim": self.rotary_dim,
            "scaling": serialize_scaling(self.scaling),
        }


def _check_rotary_dim(rotary_dim):
    if rotary_dim is None:
        return
    is_count = isinstance(rotary_dim, numbers.Integral) and rotary_dim > 0 and rotary_dim % 2 == 0
    is_share = isinstance(rotary_dim, float) and 0 < rotary_dim <= 1
    if isinstance(rotary_dim, bool) or not (is_count or is_share):
        raise ValueError(
            "`rotary_dim` must be None, a positive even integer, or a float in (0, 1]. "
            f"Received: rotary_dim={rotary_dim!r}"
        )
