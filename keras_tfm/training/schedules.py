"""Learning-rate schedules that start with a linear warm-up."""

import math
import numbers

import keras
from keras import ops

_DECAYS = ("inverse_sqrt", "cosine", "linear")


@keras.saving.register_keras_serializable(package="keras_tfm")
class WarmupSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Raises the learning rate linearly for `warmup_steps` updates, then lets it decay.

    With the defaults it is the schedule of "Attention Is All You Need",
    `hidden_dim^-0.5 * min(step^-0.5, step * warmup_steps^-1.5)`. Optimizers count from 0 and the paper from 1:
    `step` is the number of updates plus one, so that the first update has a rate above zero, and update number
    `warmup_steps` has the peak rate.

    Args:
        hidden_dim: D, the width of the model; sets the peak rate `(hidden_dim * warmup_steps)^-0.5`. Defaults to 512.
        warmup_steps: number of updates until the peak rate, at least 1. Defaults to 4000.
        scale: positive factor on the peak rate. Defaults to 1.
        peak_learning_rate: the rate at the end of the warm-up, in the place of the one that `hidden_dim` gives.
            Defaults to `None`.
        decay: what follows the warm-up: `"inverse_sqrt"` (the paper), `"cosine"` or `"linear"`.
        decay_steps: number of updates after the warm-up until `final_learning_rate`; needed by `"cosine"` and
            `"linear"`, refused by `"inverse_sqrt"`, which has no end.
        final_learning_rate: the rate from the end of the decay on. Defaults to 0.
        name: name of the schedule.

    Call arguments:
        step: integer scalar (or any shape), the number of updates made so far. With `gradient_accumulation_steps`
            Keras 3.15 gives the number of batches instead: count `warmup_steps` and `decay_steps` in batches then.

    Returns:
        float32 learning rate of the next update, of the shape of `step`.

    Numerics:
        Computed in float32 whatever the dtype policy; steps are exact up to 16 million.

    Raises:
        ValueError: an argument is out of its range, or `decay` and `decay_steps` do not fit.

    Reference:
        Vaswani et al. 2017, equation 3; Loshchilov and Hutter 2017 for the cosine.

    Example:

    >>> import keras
    >>> schedule = WarmupSchedule(hidden_dim=512, warmup_steps=4000)
    >>> [round(float(schedule(updates)), 6) for updates in (999, 3999, 15999)]
    [0.000175, 0.000699, 0.000349]
    >>> optimizer = keras.optimizers.Adam(schedule, beta_1=0.9, beta_2=0.98, epsilon=1e-9)
    """

    def __init__(
        self,
        hidden_dim=512,
        warmup_steps=4000,
        scale=1.0,
        *,
        peak_learning_rate=None,
        decay="inverse_sqrt",
        decay_steps=None,
        final_learning_rate=0.0,
        name="warmup_schedule",
    ):
        super().__init__()
        _check_positive("hidden_dim", hidden_dim, numbers.Integral)
        _check_positive("warmup_steps", warmup_steps, numbers.Integral)
        _check_positive("scale", scale, numbers.Real)
        if peak_learning_rate is not None:
            _check_positive("peak_learning_rate", peak_learning_rate, numbers.Real)
        _check_decay(decay, decay_steps, final_learning_rate)
        self.hidden_dim = hidden_dim
        self.warmup_steps = warmup_steps
        self.scale = scale
        self.peak_learning_rate = peak_learning_rate
        self.decay = decay
        self.decay_steps = decay_steps
        self.final_learning_rate = final_learning_rate
        self.name = name

    def __call__(self, step):
        """Returns the rate of the update after `step` updates."""
        step = ops.cast(step, "float32") + 1.0
        peak = self.scale * (self.peak_learning_rate or (self.hidden_dim * self.warmup_steps) ** -0.5)
        warmup = peak * (step / self.warmup_steps)
        return ops.where(step < self.warmup_steps, warmup, self._decayed(step, peak))

    def _decayed(self, step, peak):
        if self.decay == "inverse_sqrt":
            return peak * ops.sqrt(self.warmup_steps / step)
        progress = ops.clip((step - self.warmup_steps) / self.decay_steps, 0.0, 1.0)
        remaining = 1.0 - progress if self.decay == "linear" else 0.5 * (1.0 + ops.cos(math.pi * progress))
        return self.final_learning_rate + (peak - self.final_learning_rate) * remaining

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            "hidden_dim": self.hidden_dim,
            "warmup_steps": self.warmup_steps,
            "scale": self.scale,
            "peak_learning_rate": self.peak_learning_rate,
            "decay": self.decay,
            "decay_steps": self.decay_steps,
            "final_learning_rate": self.final_learning_rate,
            "name": self.name,
        }


def _check_positive(name, value, kind):
    if isinstance(value, bool) or not isinstance(value, kind) or not 0 < value < math.inf:
        noun = "integer" if kind is numbers.Integral else "number"
        raise ValueError(f"`{name}` must be a positive {noun}. Received: {name}={value!r}")


def _check_decay(decay, decay_steps, final_learning_rate):
    if decay not in _DECAYS:
        raise ValueError(f"`decay` must be one of {', '.join(_DECAYS)}. Received: decay={decay!r}")
    if not isinstance(final_learning_rate, numbers.Real) or not 0 <= final_learning_rate < math.inf:
        raise ValueError(
            "`final_learning_rate` must be a number of at least 0. "
            f"Received: final_learning_rate={final_learning_rate!r}"
        )
    if decay != "inverse_sqrt":
        _check_positive("decay_steps", decay_steps, numbers.Integral)
        return
    if decay_steps is not None or final_learning_rate:
        raise ValueError(
            "`decay_steps` and `final_learning_rate` belong to decay='cosine' and 'linear'; 'inverse_sqrt' has no end. "
            f"Received: decay_steps={decay_steps!r}, final_learning_rate={final_learning_rate!r}"
        )
