"""Rotary scalings as values: what they promise at their ends, configs, and what they refuse."""

import math

import numpy as np
import pytest

from keras_tfm.ops.positions import frequencies
from keras_tfm.ops.rotary_scaling import (
    SCALINGS,
    DynamicNTKScaling,
    LinearScaling,
    Llama3Scaling,
    YaRNScaling,
    get_scaling,
    serialize_scaling,
)

PLAIN = frequencies(128)


def test_a_factor_of_one_changes_nothing():
    for scaling in (
        LinearScaling(1),
        DynamicNTKScaling(1, 512, length=512),
        YaRNScaling(1, 512),
        Llama3Scaling(1, 512),
    ):
        np.testing.assert_allclose(scaling.frequencies(128, 10_000, None), PLAIN, rtol=1e-12)
        assert scaling.magnitude == 1


@pytest.mark.parametrize("kind", [YaRNScaling, Llama3Scaling])
def test_fast_pairs_stay_and_slow_pairs_are_interpolated(kind):
    """Section 3.2 of YaRN: nothing is lost of the fine order, nothing is extrapolated of the coarse one."""
    scaled = kind(8, 2048).frequencies(128, 10_000, None)
    assert scaled[0] == PLAIN[0]
    np.testing.assert_allclose(scaled[-1], PLAIN[-1] / 8, rtol=1e-12)
    ratio = PLAIN / scaled
    assert (np.diff(ratio) >= -1e-12).all()
    assert ((ratio > 1) & (ratio < 8)).any()


def test_dynamic_ntk_slows_the_slowest_pair_most():
    """At twice the original length with factor 2 the base grows by 3^(d / (d - 2)), the slowest pair slows by 3."""
    scaled = DynamicNTKScaling(2, 512, length=1024).frequencies(128, 10_000, None)
    assert scaled[0] == 1
    np.testing.assert_allclose(PLAIN[-1] / scaled[-1], 3, rtol=1e-12)
    for length in (1, 512):
        shorter = DynamicNTKScaling(2, 512, length=length)
        np.testing.assert_allclose(shorter.frequencies(128, 10_000, None), PLAIN, rtol=1e-12)


def test_one_pair():
    for scaling in (
        DynamicNTKScaling(2, 512, length=1024),
        YaRNScaling(4, 512),
        Llama3Scaling(4, 512),
        LinearScaling(4),
    ):
        assert np.isfinite(scaling.frequencies(2, 10_000, None)).all()


def test_the_temperature_of_yarn():
    """Section 3.3: √(1/t) = 0.1 ln(s) + 1, on queries and on keys."""
    assert math.isclose(YaRNScaling(16, 2048).magnitude, 0.1 * math.log(16) + 1)
    assert math.isclose(YaRNScaling(16, 2048, mscale=0.5).magnitude, 0.05 * math.log(16) + 1)
    assert YaRNScaling(16, 2048, attention_factor=1.25).magnitude == 1.25


@pytest.mark.parametrize(
    "scaling",
    [
        LinearScaling(2.5),
        DynamicNTKScaling(2, 512, 4096),
        YaRNScaling(4, 512, 20, 2, 0.5, 1.5, False),
        Llama3Scaling(8, 512, 2, 8),
    ],
)
def test_serialized_and_made_again(scaling):
    config = serialize_scaling(scaling)
    assert set(config) - {"type"} == set(type(scaling).__dataclass_fields__)
    assert SCALINGS[config["type"]] is type(scaling)
    assert get_scaling(config) == scaling
    assert get_scaling(scaling) is scaling
    assert get_scaling(None) is None and serialize_scaling(None) is None


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        ("linear", "`scaling` must be None or a dict.*scaling='linear'"),
        ({"factor": 2}, "whose 'type' is one of"),
        ({"type": "ntk", "factor": 2}, "whose 'type' is one of.*'ntk'"),
        ({"type": "linear"}, r"missing: \['factor'\]"),
        ({"type": "linear", "factor": 2, "beta": 1}, r"unknown: \['beta'\]"),
        ({"type": "linear", "factor": 0.5}, "`factor` must be a number, at least 1.*factor=0.5"),
        ({"type": "linear", "factor": "2"}, "`factor` must be a number.*factor='2'"),
        ({"type": "linear", "factor": float("nan")}, "`factor` must be a number.*factor=nan"),
        ({"type": "dynamic_ntk", "factor": 2, "original_length": 0}, "`original_length` must be.*original_length=0"),
        ({"type": "dynamic_ntk", "factor": 2, "original_length": 8, "length": 2.5}, "`length` must be.*length=2.5"),
        ({"type": "yarn", "factor": 2, "original_length": 1.5}, "`original_length` must be.*original_length=1.5"),
        ({"type": "yarn", "factor": 2, "original_length": 8, "beta_fast": 1}, "`beta_slow` must be.*beta_fast=1"),
        ({"type": "yarn", "factor": 2, "original_length": 8, "mscale": -1}, "`mscale` must be.*mscale=-1"),
        ({"type": "yarn", "factor": 2, "original_length": 8, "attention_factor": 0}, "`attention_factor` must be"),
        ({"type": "llama3", "factor": 2, "original_length": 8, "low_freq_factor": 4}, "`low_freq_factor` must be"),
    ],
)
def test_bad_values(scaling, message):
    with pytest.raises(ValueError, match=message):
        get_scaling(scaling)
