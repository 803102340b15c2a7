"""Strategies by name."""

import importlib

from keras_tfm.generation.strategy import Strategy

# name: (module, class); loaded when they are asked for.
STRATEGIES = {
    "greedy": ("greedy", "Greedy"),
    "beam": ("beam", "Beam"),
    "diverse_beam": ("diverse_beam", "DiverseBeam"),
    "constrained_beam": ("constrained_beam", "ConstrainedBeam"),
    "sampling": ("sampling", "Sampling"),
    "mirostat": ("mirostat", "Mirostat"),
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
    module, name = STRATEGIES[strategy]
    kind = getattr(importlib.import_module(f"keras_tfm.generation.{module}"), name)
    unknown = [name for name in settings if name not in kind.__dataclass_fields__]
    if unknown:
        raise ValueError(
            f"`{strategy}` has the settings {list(kind.__dataclass_fields__)}. "
            f"Received: {unknown[0]}={settings[unknown[0]]!r}"
        )
    return kind(**settings)
