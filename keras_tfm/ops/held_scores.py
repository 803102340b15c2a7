"""What dense attention holds of its scores between output and gradient: with their dropout, in the fewest passes.

Each way has `draws`, what is drawn for them; `hold`, what is kept of scores `[B, N, T, S]`; `dropped`, what multiplies
the values; and `slopes`, those of the logits, float32, from those of the dropped scores and the sum of a row of both.
"""

import keras
from keras import ops


def drop_of(dropout):
    """How to hold scores with this `ScoreDropout`, or `None`."""
    if dropout is None or not dropout.rate:
        return NothingDropped()
    return DroppedApart(dropout) if keras.backend.backend() == "tensorflow" else DroppedBySign(dropout)


class NothingDropped:
    """The scores."""

    def draws(self, shape, like):
        """Nothing is drawn."""
        return None

    def hold(self, scores, draws):
        """The scores."""
        return scores

    def dropped(self, held):
        """The scores."""
        return held

    def slopes(self, held, slopes, common):
        """The gradient of a softmax."""
        return ops.cast(held, "float32") * (slopes - common)


class DroppedBySign:
    """What is dropped is negative, so that no mask is kept: where a compiler fuses what takes them apart."""

    def __init__(self, dropout):
        self._dropout, self._scaling = dropout, 1 / (1 - dropout.rate)

    def draws(self, shape, like):
        """1 or -1."""
        return self._dropout.keep_signs(shape, like)

    def hold(self, scores, draws):
        """Scores with signs."""
        return scores * ops.cast(draws, scores.dtype)

    def dropped(self, held):
        """Those that stay, scaled up."""
        return ops.relu(held) * ops.cast(self._scaling, held.dtype)

    def slopes(self, held, slopes, common):
        """The gradient of a softmax whose scores were dropped."""
        held = ops.cast(held, "float32")
        return self.dropped(held) * slopes - ops.abs(held) * common


class DroppedApart:
    """Scores as they were and as they are left, where each operation is a pass over the memory."""

    def __init__(self, dropout):
        self._dropout = dropout

    def draws(self, shape, like):
        """0, or what scales up."""
        return self._dropout.keep_factors(shape, like)

    def hold(self, scores, draws):
        """Both."""
        return scores, scores * ops.cast(draws, scores.dtype)

    def dropped(self, held):
        """Those that stay, scaled up."""
        return held[1]

    def slopes(self, held, slopes, common):
        """The gradient of a softmax whose scores were dropped."""
        scores, dropped = (ops.cast(each, "float32") for each in held)
        return dropped * slopes - scores * common
