"""ALiBi: logits fall linearly with distance, at another rate in each head."""

import keras
from keras import ops

from keras_tfm.layers.attention_position import AttentionPosition
from keras_tfm.layers.position_checks import check_choice, check_shared_heads
from keras_tfm.ops.relative_positions import alibi_slopes, distances


@keras.saving.register_keras_serializable(package="keras_tfm")
class Alibi(AttentionPosition):
    """Attention with linear biases, for `MultiHeadAttention(position=...)`.

    Adds `-slope · distance` to the logits. The slopes are fixed, a geometric sequence over the heads.

    Args:
        direction: which keys are penalised. `"symmetric"`: those before and after the query alike, which under a causal
            mask is the paper's bias; `"causal"`: those before, while later ones, that a causal mask hides, get 0;
            `"asymmetric"`: both, at rates of their own (needs `learnable`). Defaults to `"symmetric"`.
        learnable: whether the slopes are weights, which start at the paper's. Defaults to `False`.
        **kwargs: `keras.layers.Layer` arguments.

    Raises:
        ValueError: an unknown direction; `"asymmetric"` with fixed slopes, which is `"symmetric"`.

    Numerics:
        The bias is float32 whatever the policy.

    Reference:
        Press et al. 2022, "Train Short, Test Long: Attention with Linear Biases Enables Input Length Extrapolation",
        section 3. The two-sided forms are those that the authors propose for encoders.

    Example:

    >>> import keras, keras_tfm
    >>> layer = keras_tfm.layers.MultiHeadAttention(num_heads=2, key_dim=8, position=Alibi())
    >>> x = keras.random.normal((1, 5, 16))
    >>> tuple(layer(x, x).shape)
    (1, 5, 16)
    """

    def __init__(self, direction="symmetric", learnable=False, **kwargs):
        super().__init__(**kwargs)
        check_choice("direction", direction, ("symmetric", "causal", "asymmetric"))
        if direction == "asymmetric" and not learnable:
            raise ValueError(
                "`direction='asymmetric'` needs `learnable=True`: the fixed slopes are the same on both sides. "
                f"Received: direction={direction!r}, learnable={learnable}"
            )
        self.direction = direction
        self.learnable = learnable
        self.slopes = None

    def build(self, query_shape, key_shape, value_shape):
        """Makes the slopes, if they are learned: those for keys before the query, then those for keys after it."""
        if self.learnable:
            sides = 2 if self.direction == "asymmetric" else 1
            self.slopes = self.add_weight(
                name="slopes", shape=(sides, query_shape[2]), initializer=_paper_slopes, autocast=False
            )

    def bias(self, query, key, query_positions, key_positions):
        """float32 `[1 or B, N, T, S]`."""
        distance = ops.cast(distances(query_positions, key_positions), "float32")[:, None]
        before, after = ops.relu(-distance), ops.relu(distance)
        sides = self._slopes(query)
        if self.direction == "causal":
            return -sides[0] * before
        if self.direction == "symmetric":
            return -sides[0] * (before + after)
        return -(sides[0] * before + sides[1] * after)

    def _slopes(self, query):
        """float32 `[sides, N, 1, 1]`."""
        if self.slopes is None:
            slopes = _paper_slopes((1, query.shape[2]), "float32")
        else:
            check_shared_heads(self, query, self.slopes.shape[1])
            slopes = ops.cast(self.slopes, "float32")
        return slopes[:, :, None, None]

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "direction": self.direction, "learnable": self.learnable}


def _paper_slopes(shape, dtype):
    return ops.tile(ops.convert_to_tensor(alibi_slopes(shape[1]), dtype=dtype)[None], (shape[0], 1))
