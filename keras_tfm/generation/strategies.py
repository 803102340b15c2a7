"""Strategies by name."""

from keras_tfm.generation.beam import Beam
from keras_tfm.generation.constrained_beam import ConstrainedBeam
from keras_tfm.generation.diverse_beam import DiverseBeam
from keras_tfm.generation.greedy import Greedy
from keras_tfm.generation.mirostat import Mirostat
from keras_tfm.generation.sampling import Sampling
from keras_tfm.generation.strategy import Strategy

STRATEGIES = {
    "greedy": Greedy,
    "beam": Beam,
    "diverse_beam": DiverseBeam,
    "constrained_beam": ConstrainedBeam,
    "sampling": Sampling,
    "mirostat": Mirostat,
}


def get_strategy(strategy, **settings):
    """A `Strategy` from itself or from its name and settings.

    Raises:
        ValueError: no strategy has that name, it has no such setting, or settings came with a `Strategy`.

    Example:

    >>> get_strategy("sampling", temperature=0.7).temperature
    0.7
    """
    if isinstance(strategy, Strategy):
        if settings:
            raise ValueError(
                "Settings belong to the strategy that is given, or the strategy is given by its name. "
                f"Received: strategy={strategy!r}, {', '.join(f'{name}={value!r}' for name, value in settings.items())}"
            )
        return strategy
    if strategy not in STRATEGIES:
        raise ValueError(
            f"`strategy` must be a `Strategy` or one of {list(STRATEGIES)}. Received: strategy={strategy!r}"
        )
    kind = STRATEGIES[strategy]
    unknown = [name for name in settings if name not in kind.__dataclass_fields__]
    if unknown:
        raise ValueError(
            f"`{strategy}` has the settings {list(kind.__dataclass_fields__)}. "
            f"Received: {unknown[0]}={settings[unknown[0]]!r}"
        )
    return kind(**settings)
