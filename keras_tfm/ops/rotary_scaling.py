"""Rotary frequencies for inputs longer than those of training: one small value for each published rule.

Each has `frequencies(dim, max_wavelength, positions)`, the angular frequencies of `dim / 2` pairs, and `magnitude`, the
factor on what was turned.
"""

import dataclasses
import math
import numbers

import numpy as np
from keras import ops

from keras_tfm.ops.positions import frequencies


@dataclasses.dataclass(frozen=True)
class LinearScaling:
    """Position interpolation: all positions are divided by `factor`.

    Args:
        factor: at least 1.

    Reference:
        Chen et al. 2023, "Extending Context Window of Large Language Models via Positional Interpolation", equation 4.
    """

    factor: float
    magnitude = 1.0

    def __post_init__(self):
        _check_factor(self.factor)

    def frequencies(self, dim, max_wavelength, positions):
        """numpy float64 `[dim / 2]`."""
        return frequencies(dim, max_wavelength) / self.factor


@dataclasses.dataclass(frozen=True)
class DynamicNTKScaling:
    """NTK-aware scaling by the length at hand: slow pairs are slowed down as the input grows past `original_length`.

    Args:
        factor: at least 1.
        original_length: longest input of training; up to there nothing changes.
        length: the length to scale for. `None` takes the largest position + 1 of each row of positions.

    Numerics:
        With `length=None` the frequencies are computed in float32: they have a relative error near 1e-7, the same at
        all positions.

    Reference:
        Peng et al. 2023, "YaRN", section 3.1 and appendix; the rule is that of the Transformers library.
    """

    factor: float
    original_length: int
    length: int | None = None
    magnitude = 1.0

    def __post_init__(self):
        _check_factor(self.factor)
        _check_length("original_length", self.original_length)
        if self.length is not None:
            _check_length("length", self.length)

    def frequencies(self, dim, max_wavelength, positions):
        """numpy float64 `[dim / 2]`, or with `length=None` a float32 tensor `[1, dim / 2]` or `[B, 1, dim / 2]`."""
        plain = frequencies(dim, max_wavelength)
        powers = np.arange(dim // 2) / max(dim // 2 - 1, 1)
        if self.length is not None:
            return plain * self._growth(max(self.length, self.original_length)) ** -powers
        length = ops.max(ops.cast(positions, "float32"), axis=-1, keepdims=True) + 1
        growth = ops.expand_dims(self._growth(ops.maximum(length, float(self.original_length))), -1)
        return ops.convert_to_tensor(plain, dtype="float32") * ops.power(
            growth, ops.convert_to_tensor(-powers, dtype="float32")
        )

    def _growth(self, length):
        return self.factor * (length / self.original_length) - (self.factor - 1)


@dataclasses.dataclass(frozen=True)
class YaRNScaling:
    """YaRN: fast pairs stay, slow pairs are interpolated, those between are blended; logits get a temperature.

    Args:
        factor: at least 1.
        original_length: longest input of training.
        beta_fast: pairs with more turns than this in `original_length` stay. Defaults to 32.
        beta_slow: pairs with fewer turns than this are divided by `factor`. Defaults to 1.
        mscale: m in the temperature: queries and keys are multiplied by `0.1 · m · ln(factor) + 1`. Defaults to 1.
        attention_factor: takes the place of that product.
        truncate: whether the ends of the blend are rounded to whole pairs. Defaults to `True`.

    Reference:
        Peng et al. 2023, "YaRN: Efficient Context Window Extension of Large Language Models", sections 3.2 and 3.3. The
        blend is linear in the index of the pair, as in the authors' code.
    """

    factor: float
    original_length: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float = 1.0
    attention_factor: float | None = None
    truncate: bool = True

    def __post_init__(self):
        _check_factor(self.factor)
        _check_length("original_length", self.original_length)
        _check_order(beta_slow=self.beta_slow, beta_fast=self.beta_fast)
        is_right = _is_number(self.mscale) and self.mscale >= 0
        _check(is_right, "`mscale` must be a number, at least 0", mscale=self.mscale)
        factor = self.attention_factor
        is_right = factor is None or (_is_number(factor) and factor > 0)
        _check(is_right, "`attention_factor` must be a positive number or None", attention_factor=factor)

    @property
    def magnitude(self):
        """Factor on queries and on keys."""
        if self.attention_factor is not None:
            return self.attention_factor
        return 0.1 * self.mscale * math.log(self.factor) + 1.0

    def frequencies(self, dim, max_wavelength, positions):
        """numpy float64 `[dim / 2]`."""
        plain = frequencies(dim, max_wavelength)
        low = self._pair_of(self.beta_fast, dim, max_wavelength)
        high = self._pair_of(self.beta_slow, dim, max_wavelength)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, dim - 1)
        slow = np.clip((np.arange(dim // 2) - low) / ((high - low) or 0.001), 0, 1)
        return plain * (1 - slow) + plain / self.factor * slow

    def _pair_of(self, turns, dim, max_wavelength):
        """The real index of the pair that makes so many turns within `original_length`."""
        return dim * math.log(self.original_length / (turns * 2 * math.pi)) / (2 * math.log(max_wavelength))


@dataclasses.dataclass(frozen=True)
class Llama3Scaling:
    """The rule of Llama 3.1: long wavelengths are multiplied by `factor`, short ones stay, those between are blended.

    Args:
        factor: at least 1.
        original_length: longest input of training.
        low_freq_factor: wavelengths over `original_length / low_freq_factor` are long. Defaults to 1.
        high_freq_factor: wavelengths under `original_length / high_freq_factor` are short. Defaults to 4.

    Reference:
        Dubey et al. 2024, "The Llama 3 Herd of Models", and the models' published code.
    """

    factor: float
    original_length: int
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    magnitude = 1.0

    def __post_init__(self):
        _check_factor(self.factor)
        _check_length("original_length", self.original_length)
        _check_order(low_freq_factor=self.low_freq_factor, high_freq_factor=self.high_freq_factor)

    def frequencies(self, dim, max_wavelength, positions):
        """numpy float64 `[dim / 2]`."""
        plain = frequencies(dim, max_wavelength)
        turns = self.original_length * plain / (2 * math.pi)
        fast = np.clip((turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor), 0, 1)
        return plain * fast + plain / self.factor * (1 - fast)


SCALINGS = {"linear": LinearScaling, "dynamic_ntk": DynamicNTKScaling, "yarn": YaRNScaling, "llama3": Llama3Scaling}


def get_scaling(value):
    """Resolves `scaling`: `None`, a dict `{"type": name, **arguments}`, or a scaling itself.

    Raises:
        ValueError: an unknown type, a missing, unknown or unfit argument.

    Example:

    >>> get_scaling({"type": "linear", "factor": 4.0})
    LinearScaling(factor=4.0)
    """
    if value is None or isinstance(value, tuple(SCALINGS.values())):
        return value
    if not isinstance(value, dict) or value.get("type") not in SCALINGS:
        raise ValueError(
            f"`scaling` must be None or a dict whose 'type' is one of {sorted(SCALINGS)}. Received: scaling={value!r}"
        )
    arguments = {name: each for name, each in value.items() if name != "type"}
    kind = SCALINGS[value["type"]]
    fields = {field.name: field for field in dataclasses.fields(kind)}
    missing = [name for name, field in fields.items() if field.default is dataclasses.MISSING and name not in arguments]
    unknown = [name for name in arguments if name not in fields]
    if missing or unknown:
        raise ValueError(
            f"`scaling` of type {value['type']!r} takes {list(fields)}; missing: {missing}, unknown: {unknown}. "
            f"Received: scaling={value!r}"
        )
    return kind(**arguments)


def serialize_scaling(scaling):
    """The dict from which `get_scaling` makes the scaling again; `None` for `None`."""
    if scaling is None:
        return None
    names = {kind: name for name, kind in SCALINGS.items()}
    return {"type": names[type(scaling)], **dataclasses.asdict(scaling)}


def _check_factor(factor):
    _check(_is_number(factor) and factor >= 1, "`factor` must be a number, at least 1", factor=factor)


def _check_length(name, length):
    is_length = isinstance(length, numbers.Integral) and length > 0
    _check(is_length, f"`{name}` must be a positive integer", **{name: length})


def _check_order(**bounds):
    (low_name, low), (high_name, high) = bounds.items()
    is_right = _is_number(low) and _is_number(high) and 0 < low < high
    _check(is_right, f"`{low_name}` must be positive and less than `{high_name}`", **bounds)


def _is_number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _check(is_right, rule, **received):
    if not is_right:
        received = ", ".join(f"{name}={value!r}" for name, value in received.items())
        raise ValueError(f"{rule}. Received: {received}")
