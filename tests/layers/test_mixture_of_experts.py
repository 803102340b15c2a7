"""Mixtures of experts: against loops in float64, the losses in training alone, and padding that touches nothing."""

import keras
import numpy as np
import pytest

from keras_tfm.layers.mixture_of_experts import MixtureOfExperts
from keras_tfm.layers.transformer_decoder import TransformerDecoder
from keras_tfm.layers.transformer_encoder import TransformerEncoder
from tests import oracles
from tests.layers.check_layer import check_layer
from tests.numerics import assert_close, layer_gradients, randomize, to_numpy, with_mask

B, T, D, F, E = 2, 7, 5, 11, 3
X = np.random.default_rng(0).normal(size=(B, T, D)).astype("float32")
REAL = np.arange(T) < [[4], [6]]


def made(seed=0, **arguments):
    layer = MixtureOfExperts(E, F, **arguments)
    layer.build((None, None, D))
    return randomize(layer, seed)


GATES = {"swiglu": lambda x: x / (1 + np.exp(-x)), "geglu": oracles.gelu, "gated": oracles.relu}


def weights_of(layer):
    dense = {"gate": layer.experts.gate_dense, "intermediate": layer.experts.intermediate_dense}
    dense["output"] = layer.experts.output_dense
    weights = {"router": to_numpy(layer.router_kernel)}
    for name, part in dense.items():
        if part is not None:
            bias = to_numpy(part.bias)[:, 0] if layer.use_bias else np.zeros((E, part.kernel.shape[-1]))
            weights[name] = to_numpy(part.kernel), bias
    return weights


def expert(weights, e, x, feed_forward=None):
    """`FFN_e(x)`: one expert on one token."""
    (w, b), (v, c) = weights["intermediate"], weights["output"]
    hidden = x @ w[e] + b[e]
    if feed_forward is None:
        return np.maximum(hidden, 0) @ v[e] + c[e]
    g, d = weights["gate"]
    return (GATES[feed_forward](x @ g[e] + d[e]) * hidden) @ v[e] + c[e]


def probabilities(weights, x):
    logits = x @ weights["router"]
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()


def mixture(weights, inputs, top_k, routing, feed_forward=None):
    """Shazeer et al. 2017, equation 1, token by token."""
    outputs = np.zeros(inputs.shape)
    for place in np.ndindex(inputs.shape[:-1]):
        x = inputs[place].astype("float64")
        p = probabilities(weights, x)
        chosen = np.argsort(-p)[:top_k]
        if routing == "top_k_softmax":  # Shazeer's KeepTopK: the softmax of the logits that are kept
            logits = (x @ weights["router"])[chosen]
            gates = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        else:
            gates = p[chosen]
        outputs[place] = sum(g * expert(weights, e, x, feed_forward) for g, e in zip(gates, chosen, strict=True))
    return outputs


@pytest.mark.parametrize(
    "feed_forward, use_bias", [(None, True), (None, False), ("swiglu", False), ("geglu", True), ("gated", True)]
)
@pytest.mark.parametrize("top_k, routing", [(1, None), (2, None), (2, "softmax_top_k"), (3, "top_k_softmax")])
def test_each_token_is_computed_by_its_experts(top_k, routing, feed_forward, use_bias):
    layer = made(top_k=top_k, routing=routing, feed_forward=feed_forward, use_bias=use_bias)
    routing = routing or ("softmax_top_k" if top_k == 1 else "top_k_softmax")
    assert_close(layer(X), mixture(weights_of(layer), X, top_k, routing, feed_forward))


def test_renormalizing_the_largest_probabilities_is_the_softmax_of_the_largest_logits():
    layer = made(top_k=2)
    weights = weights_of(layer)
    expected = np.zeros(X.shape)
    for place in np.ndindex(X.shape[:-1]):
        p = probabilities(weights, X[place])
        chosen = np.argsort(-p)[:2]
        expected[place] = sum(p[e] / p[chosen].sum() * expert(weights, e, X[place]) for e in chosen)
    assert_close(layer(X), expected)


def losses(layer, x=X, **options):
    """What one call in training adds, as numbers."""
    layer._clear_losses()
    layer(x, training=True, **options)
    return [float(to_numpy(loss)) for loss in layer.losses]


@pytest.mark.parametrize("top_k", [1, 2])
def test_the_losses_are_the_papers_over_real_tokens(top_k):
    layer = made(top_k=top_k, balance_coefficient=0.5, z_coefficient=0.25)
    weights = weights_of(layer)
    p = np.array([probabilities(weights, x) for x in X[REAL].astype("float64")])
    chosen = np.argsort(-p)[:, :top_k]
    shares = np.bincount(chosen.ravel(), minlength=E) / chosen.size
    z = np.log(np.exp(X[REAL].astype("float64") @ weights["router"]).sum(-1)) ** 2
    expected = [0.5 * E * (shares * p.mean(0)).sum(), 0.25 * z.mean()]
    np.testing.assert_allclose(losses(layer, mask=REAL), expected, rtol=1e-5)
    np.testing.assert_allclose(losses(layer, with_mask(X, REAL)), expected, rtol=1e-5)


def test_equal_use_of_all_experts_costs_the_coefficient():
    layer = made(top_k=E, balance_coefficient=0.125)
    layer.router_kernel.assign(np.zeros((D, E)))
    np.testing.assert_allclose(losses(layer), [0.125], rtol=1e-6)


def test_there_is_no_loss_at_inference_and_none_for_a_coefficient_of_zero():
    layer = made()
    layer(X)
    layer(X, training=False)
    assert layer.losses == []
    assert losses(made(balance_coefficient=0.0)) == []


@pytest.mark.parametrize("capacity_factor", [None, 0.6, 1.25])
@pytest.mark.parametrize("garbage", [0.0, 7.0, np.nan, np.inf])
def test_padding_touches_neither_outputs_nor_losses_nor_gradients(garbage, capacity_factor):
    layer = made(z_coefficient=0.1, capacity_factor=capacity_factor, jitter=0.0)
    clean, dirty = np.where(REAL[..., None], X, 0), np.where(REAL[..., None], X, garbage).astype("float32")
    outputs, of_inputs, of_weights = zip(
        *(
            layer_gradients(layer, lambda x: layer(x, mask=REAL, training=True), [x], np.ones(X.shape))
            for x in (clean, dirty)
        ),
        strict=True,
    )
    assert_close(outputs[1], outputs[0])
    assert (outputs[1][~REAL] == 0).all()
    assert_close(of_inputs[1], of_inputs[0])
    assert_close(of_weights[1], of_weights[0])
    np.testing.assert_allclose(losses(layer, dirty, mask=REAL), losses(layer, clean, mask=REAL), rtol=1e-6)


def test_a_batch_of_padding_is_finite():
    layer = made(z_coefficient=0.1)
    output = layer(X, mask=np.zeros((B, T), bool), training=True)
    assert (to_numpy(output) == 0).all()
    assert losses(layer, mask=np.zeros((B, T), bool)) == [0.0, 0.0]


@pytest.mark.parametrize("top_k", [1, 2])
def test_with_a_capacity_the_first_tokens_are_computed_and_the_others_left_out(top_k):
    layer = made(top_k=top_k, capacity_factor=0.5, routing="softmax_top_k")
    weights, tokens = weights_of(layer), X.reshape(-1, D).astype("float64")
    capacity = int(np.ceil(0.5 * top_k * len(tokens) / E))
    expected, room = np.zeros(tokens.shape), np.full(E, capacity)
    for t, x in enumerate(tokens):
        p = probabilities(weights, x)
        for e in np.argsort(-p)[:top_k]:
            if room[e]:
                room[e] -= 1
                expected[t] += p[e] * expert(weights, e, x)
    assert (room == 0).any(), "nothing was left out: nothing was tested"
    assert_close(layer(X, training=True), expected.reshape(X.shape))
    assert_close(layer(X), mixture(weights, X, top_k, "softmax_top_k"))


def test_room_for_all_changes_nothing():
    layer = made(capacity_factor=float(E))
    assert_close(layer(X, training=True), layer(X))


def test_jitter_moves_the_choice_in_training_alone():
    layer = made(jitter=0.5, seed=0)
    assert_close(layer(X), layer(X))
    assert np.abs(to_numpy(layer(X, training=True)) - to_numpy(layer(X))).max() > 1e-3


def test_each_expert_starts_as_a_network_of_its_own_size():
    layer = MixtureOfExperts(64, 40, kernel_initializer="glorot_uniform")
    layer.build((None, None, 24))
    kernel = to_numpy(layer.experts.intermediate_dense.kernel)
    np.testing.assert_allclose(np.abs(kernel).max(), np.sqrt(6 / (24 + 40)), rtol=1e-2)
    assert np.abs(kernel[0] - kernel[1]).max() > 0.1


@pytest.mark.parametrize("capacity_factor", [None, 1.5])
def test_it_trains_in_a_block_and_its_loss_reaches_the_training_loss(capacity_factor):
    ids = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(13, 8, mask_zero=True)(ids)
    experts = MixtureOfExperts(E, F, balance_coefficient=3.0, capacity_factor=capacity_factor)
    x = TransformerEncoder(None, 2, feed_forward=experts)(x)
    x = TransformerDecoder(None, 2, feed_forward=experts)(x)
    model = keras.Model(ids, keras.layers.Dense(13)(x))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    tokens = np.random.default_rng(0).integers(1, 13, (8, 6)) * (np.arange(6) < 4)
    history = model.fit(tokens, tokens, epochs=2, batch_size=4, verbose=0).history["loss"]
    # Two layers with a loss of about 3 each in training, none in evaluation.
    assert history[0] > 6 > 3.5 > model.evaluate(tokens, tokens, verbose=0) > 1


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_routing_is_float32_under_mixed_precision(policy):
    layer, exact = made(dtype=policy, z_coefficient=1.0), made(z_coefficient=1.0)
    x = X.astype("float16" if policy == "mixed_float16" else "float32")
    x = to_numpy(keras.ops.cast(x, layer.compute_dtype))
    np.testing.assert_allclose(losses(layer, x), losses(exact, x.astype("float32")), rtol=1e-6)
    assert_close(layer(x), exact(x.astype("float32")), layer.compute_dtype)


@pytest.mark.parametrize(
    "arguments", [{}, {"feed_forward": "swiglu", "top_k": 1, "use_bias": False}, {"capacity_factor": 1.0}]
)
def test_it_keeps_the_promises_of_all_layers(arguments):
    check_layer(lambda **options: MixtureOfExperts(E, F, **arguments, **options), X)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_experts": 1, "top_k": 1}, "`num_experts` must be at least 2.*num_experts=1"),
        ({"top_k": 4}, "`top_k` at most.*top_k=4"),
        ({"top_k": 1, "routing": "top_k_softmax"}, "router learns nothing.*top_k=1"),
        ({"routing": "hash"}, "`routing` must be.*routing='hash'"),
        ({"feed_forward": "swish"}, "`feed_forward` must be.*feed_forward='swish'"),
        ({"jitter": 1.0}, r"`jitter` must be in \[0, 1\).*jitter=1.0"),
        ({"capacity_factor": 0}, "`capacity_factor` must be.*capacity_factor=0"),
        ({"intermediate_dim": 0}, "`intermediate_dim` must be.*intermediate_dim=0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        MixtureOfExperts(**{"num_experts": 3, "intermediate_dim": 5, **arguments})
