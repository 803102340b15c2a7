"""The promises of the filters: numpy float64 and the warpers of transformers say the same."""

import functools

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from keras_tfm.generation.greedy import greedy_search
from keras_tfm.generation.sampling_filters import MinP, Temperature, TopK, TopP, Typical
from tests.generation.prefix_model import MODES, PrefixModel, run

seeds = st.integers(0, 2**31)
FILTERS = {
    **{f"temperature {value}": Temperature(value) for value in (0.3, 1.7)},
    **{f"top-k {value}": TopK(value) for value in (1, 3, 50)},
    **{f"top-p {value}": TopP(value) for value in (0.0, 0.3, 0.9, 1.0)},
    **{f"min-p {value}": MinP(value) for value in (0.0, 0.2, 1.0)},
    **{f"typical {value}": Typical(value) for value in (0.2, 0.9, 1)},
}
each_filter = pytest.mark.parametrize("rule", FILTERS.values(), ids=FILTERS)


@functools.cache
def compiled(rule):
    if MODES[-1] == "jit":
        import jax

        return jax.jit(rule.filter)
    if "xla" in MODES:
        import tensorflow as tf

        return tf.function(rule.filter, jit_compile=True)
    return rule.filter


def filtered(rule, logits):
    return ops.convert_to_numpy(compiled(rule)(ops.convert_to_tensor(logits)))


def random_logits(seed, size=23):
    logits = np.random.default_rng(seed).normal(size=(5, size)).astype("float32") * 2
    logits[1, 3:7] = -np.inf
    return logits


def softmax(logits):
    powers = np.exp(logits.astype("float64") - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def fewest(order, probabilities, mass):
    """The first places of `order` whose probabilities sum to `mass`, at least one."""
    total = np.cumsum(probabilities[order])
    return order[: int((total < mass).sum()) + 1]


def kept(rule, logits):
    """The tokens that one row of logits keeps, in plain numpy."""
    probabilities = softmax(logits)
    if isinstance(rule, TopK):
        return np.argsort(-logits)[: rule.top_k]
    if isinstance(rule, TopP):
        return fewest(np.argsort(-probabilities), probabilities, rule.top_p)
    if isinstance(rule, MinP):
        return np.flatnonzero(probabilities >= rule.min_p * probabilities.max())
    surprise = -np.log(np.maximum(probabilities, 1e-300))
    entropy = (probabilities * surprise).sum()
    return fewest(np.argsort(np.abs(surprise - entropy)), probabilities, rule.typical_p)


def transformers_warper(rule):
    process = pytest.importorskip("transformers.generation.logits_process")
    if isinstance(rule, Temperature):
        return process.TemperatureLogitsWarper(rule.temperature)
    if isinstance(rule, TopK):
        return process.TopKLogitsWarper(rule.top_k)
    if isinstance(rule, TopP):
        return process.TopPLogitsWarper(rule.top_p)
    if isinstance(rule, MinP):
        return process.MinPLogitsWarper(rule.min_p)
    return process.TypicalLogitsWarper(rule.typical_p)


@each_filter
@given(seed=seeds)
def test_it_is_the_definition_in_numpy(rule, seed):
    logits = random_logits(seed)
    ours = filtered(rule, logits)
    if isinstance(rule, Temperature):
        np.testing.assert_allclose(softmax(ours), softmax(logits / np.float64(rule.temperature)), rtol=1e-4, atol=1e-7)
        return
    for row, left in zip(logits, ours, strict=True):
        expected = np.full_like(row, -np.inf)
        places = kept(rule, row)
        expected[places] = row[places]
        np.testing.assert_array_equal(left, expected)


@each_filter
@given(seed=seeds)
def test_it_is_the_warper_of_transformers(rule, seed):
    if rule in (Typical(1), TopP(0.0)):
        pytest.skip("transformers has no such setting")
    torch = pytest.importorskip("torch")
    logits = random_logits(seed)
    theirs = transformers_warper(rule)(None, torch.from_numpy(logits)).numpy()
    ours = filtered(rule, logits)
    if isinstance(rule, Temperature):
        theirs = theirs - theirs.max(-1, keepdims=True)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@each_filter
def test_some_token_is_kept_and_a_forbidden_one_is_not(rule):
    logits = np.full((3, 7), -np.inf, "float32")
    logits[0, 4] = 5.0
    logits[1] = [0, 1e30, -1e30, 3e38, -np.inf, -3e38, 2]
    ours = filtered(rule, logits)
    assert not np.isnan(ours).any() and not np.isposinf(ours).any()
    np.testing.assert_array_equal(np.isfinite(ours[0]), np.arange(7) == 4)
    assert np.isfinite(ours[1, 3]) and ours[1, 4] == -np.inf
    assert (ours[2] == -np.inf).all()


@each_filter
def test_tokens_that_are_as_probable_stay_together(rule):
    ours = filtered(rule, np.zeros((2, 11), "float32"))
    assert np.isfinite(ours).all() and (ours == ours[0, 0]).all()


@each_filter
def test_it_is_a_rule_of_any_search(rule):
    model = PrefixModel.random(3, 7, batch_size=3)
    options = dict(mode=MODES[-1], max_length=5, end_id=1)
    plain = run(greedy_search, model, **options)
    ruled = run(greedy_search, model, rules=(rule,), **options)
    assert not np.isnan(ruled[1]).any()
    if isinstance(rule, Typical):
        return  # it may take out the most probable token
    np.testing.assert_array_equal(ruled[0], plain[0])
    if not isinstance(rule, Temperature) or rule.temperature < 1:
        assert (ruled[1] >= plain[1] - 1e-5).all()  # the others have less


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="reads the program that XLA makes for JAX")
def test_top_k_does_not_sort_the_vocabulary():
    import jax

    program = jax.jit(TopK(3).filter).lower(np.zeros((2, 5003), "float32")).compile().as_text()
    assert not [line for line in program.splitlines() if " sort(" in line and "5003" in line]


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (lambda: Temperature(0), "`temperature` must be a finite number greater than 0. Received: temperature=0"),
        (lambda: Temperature("a"), "`temperature` must be .* Received: temperature='a'"),
        (lambda: Temperature(float("inf")), "`temperature` must be .* Received: temperature=inf"),
        (lambda: TopK(0), "`top_k` must be an integer of at least 1. Received: top_k=0"),
        (lambda: TopK(1.5), "`top_k` must be an integer of at least 1. Received: top_k=1.5"),
        (lambda: TopP(1.1), "`top_p` must be a finite number from 0 to 1. Received: top_p=1.1"),
        (lambda: TopP(True), "`top_p` must be a finite number from 0 to 1. Received: top_p=True"),
        (lambda: MinP(-0.1), "`min_p` must be a finite number from 0 to 1. Received: min_p=-0.1"),
        (lambda: MinP(float("nan")), "`min_p` must be a finite number from 0 to 1. Received: min_p=nan"),
        (lambda: Typical(0), "`typical_p` must be a finite number greater than 0. Received: typical_p=0"),
        (lambda: Typical(2), "`typical_p` must be a finite number from 0 to 1. Received: typical_p=2"),
    ],
)
def test_a_wrong_setting_is_named(create, message):
    with pytest.raises(ValueError, match=message):
        create()
