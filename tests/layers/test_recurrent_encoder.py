"""Recurrent mixing is Keras' own networks in both directions, padding and the future do not reach it."""

import functools

import keras
import numpy as np
import pytest

from keras_tfm import layers, testing
from keras_tfm.layers import RecurrentEncoder, RecurrentMixer, TransformerEncoder
from tests.layers.check_layer import check_layer
from tests.numerics import assert_close, layer_gradients, mask_of, randomize, to_numpy, with_mask

B, T, D, F = 2, 5, 7, 11
RNG = np.random.default_rng(0)
X = RNG.normal(size=(B, T, D)).astype("float32")
REAL = np.arange(T) < [[3], [5]]
CELLS = ("lstm", "gru")


def built(**options):
    mixer = RecurrentMixer(**options)
    mixer.build((None, None, D))
    mixer.built = True
    return randomize(mixer)


def kerases(mixer, x):
    """`keras.layers.Bidirectional`, or the network alone, with the mixer's weights, on a sequence without padding."""
    networks = [network for network in (mixer.forward_network, mixer.backward_network) if network is not None]
    copies = []
    for network in networks:
        copy = type(network)(network.units, return_sequences=True, go_backwards=network.go_backwards)
        copy.build((None, None, D))
        copy.set_weights(network.get_weights())
        copies.append(copy)
    states = [to_numpy(copies[0](x))] + [to_numpy(copy(x))[:, ::-1] for copy in copies[1:]]
    return np.concatenate(states, axis=-1)


@pytest.mark.parametrize("cell", CELLS)
def test_it_is_keras_networks_on_the_real_tokens_alone(cell):
    mixer = built(cell=cell)
    received = to_numpy(mixer(X, padding_mask=REAL))
    assert_close(received[1:], kerases(mixer, X[1:]))
    assert_close(received[:1, :3], kerases(mixer, X[:1, :3]))


def test_an_lstm_is_the_papers_equations():
    mixer = built(bidirectional=False)
    kernel, recurrent, bias = (to_numpy(variable) for variable in mixer.trainable_variables)
    state = memory = np.zeros((B, D))
    expected = []
    for t in range(T):
        gates = X[:, t].astype("float64") @ kernel + state @ recurrent + bias
        enter, forget, candidate, leave = np.split(gates, 4, axis=-1)
        enter, forget, leave = (1 / (1 + np.exp(-gate)) for gate in (enter, forget, leave))
        memory = forget * memory + enter * np.tanh(candidate)
        state = leave * np.tanh(memory)
        expected.append(state)
    assert_close(mixer(X), np.stack(expected, axis=1))


@pytest.mark.parametrize("cell", CELLS)
def test_left_and_right_padding_are_alike_whatever_they_hold(cell):
    mixer = built(cell=cell)
    alone = to_numpy(mixer(X[:, :3]))
    garbage = np.full((B, 2, D), np.nan, "float32")
    for parts, place in (([X[:, :3], garbage], slice(0, 3)), ([garbage, X[:, :3]], slice(2, 5))):
        real = np.zeros((B, T), bool)
        real[:, place] = True
        received = to_numpy(mixer(np.concatenate(parts, axis=1), padding_mask=real))
        assert_close(received[:, place], alone)
        assert np.isfinite(received).all()


def test_padding_gets_no_gradient_and_gives_none():
    mixer = built(cell="gru")
    x = np.where(REAL[..., None], X, np.nan)
    upstream = np.where(REAL[..., None], X, 0.0)
    _, (of_inputs,), of_weights = layer_gradients(mixer, lambda x: mixer(x, padding_mask=REAL), [x], upstream)
    assert np.isfinite(of_inputs).all() and all(np.isfinite(gradient).all() for gradient in of_weights)
    assert not of_inputs[~REAL].any()
    assert np.abs(of_inputs[REAL]).min() > 0


def test_a_row_of_padding_is_finite():
    real = np.array([[False] * T, [True] * T])
    assert np.isfinite(to_numpy(built()(X, padding_mask=real))).all()


def test_one_way_sees_no_future_and_both_ways_see_all():
    testing.assert_causal(RecurrentEncoder(F, bidirectional=False), X)
    with pytest.raises(AssertionError, match="changed an earlier output"):
        testing.assert_causal(RecurrentEncoder(F), X, trials=1)


@pytest.mark.parametrize("cell", CELLS)
def test_more_padding_changes_nothing_and_the_mask_goes_on(cell):
    ids = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(11, D, mask_zero=True)(ids)
    for _ in range(2):
        x = RecurrentEncoder(F, 1, dropout=0.1, cell=cell)(x)
    testing.assert_padding_invariant(keras.Model(ids, x))
    np.testing.assert_array_equal(mask_of(RecurrentEncoder(F)(with_mask(X, REAL))), REAL)


def test_only_the_mixing_differs_from_the_transformers_block():
    block = RecurrentEncoder(F, 3, 0.1, normalize_first=True, activation_dropout=0.2)
    other = TransformerEncoder(F, None, 0.1, normalize_first=True, activation_dropout=0.2, attention=RecurrentMixer())
    for layer in (block, other):
        layer.build((None, None, D))
        layer.built = True
    randomize(block)
    other.set_weights(block.get_weights())
    assert_close(block(X, padding_mask=REAL), other(X, padding_mask=REAL))
    names = ("feed_forward", "self_attention_norm", "feed_forward_norm", "feed_forward_dropout")
    assert all(type(getattr(block, name)) is type(getattr(other, name)) for name in names)


@pytest.mark.parametrize("cell", CELLS)
def test_the_promises_of_every_layer(cell):
    make = functools.partial(RecurrentMixer, cell, bidirectional=cell == "lstm")
    check_layer(make, X, keywords={"padding_mask": REAL}, tolerance=4)


def test_the_block_keeps_the_promises_of_every_layer():
    make = functools.partial(RecurrentEncoder, F, 2, 0.1, cell="gru", bidirectional=False)
    others = ("file", "policies", "compiled", "gradients", "lora", "int8")
    check_layer(make, X, skip=others)
    assert isinstance(layers.get("recurrent_encoder", intermediate_dim=F), RecurrentEncoder)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RecurrentMixer("rnn"), "`cell` must be one of .*Received: cell='rnn'"),
        (lambda: RecurrentMixer()(X[..., :1]), "`bidirectional` needs a width of at least 2.*width 1"),
        (lambda: RecurrentEncoder(F, 0), "`num_heads` must be a positive integer.*num_heads=0"),
        (lambda: RecurrentEncoder(F, position="rope"), "`position` is of attention.*Received: position='rope'"),
        (lambda: RecurrentEncoder(F, attention_dropout=0.1), "`attention_dropout` is of attention"),
        (lambda: RecurrentEncoder(F)(X, segment_ids=np.zeros((B, T), "int32")), "`segment_ids` needs attention"),
        (lambda: RecurrentEncoder(F)(X, attention_mask=np.ones((B, T, T), bool)), "`attention_mask` needs attention"),
        (lambda: RecurrentEncoder(F)(X, return_attention_scores=True), "`return_attention_scores` needs attention"),
        (lambda: RecurrentMixer()(X, X[:, :3]), "`value` must be None or the inputs again"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
