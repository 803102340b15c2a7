"""AdaptiveSoftmax against the paper in numpy float64 and against PyTorch's layer."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

from keras_tfm.layers.adaptive_softmax import AdaptiveSoftmax
from tests.layers.check_layer import check_layer
from tests.numerics import assert_close, mask_of, randomize, to_numpy, value_and_gradients, with_mask

B, T, D, V, CUTOFFS = 3, 5, 67, 23, [4, 11, 22]
RNG = np.random.default_rng(0)
X = (0.3 * RNG.normal(size=(B, T, D))).astype("float32")
TARGETS = np.array([[0, 3, 4, 10, 11], [21, 22, 1, 2, 0], [5, 6, 7, 8, 9]], "int32")
CAPACITIES = [None, 0.1, 0.4, 1.0]

make = functools.partial(AdaptiveSoftmax, V, CUTOFFS)


def built(**options):
    layer = make(**options)
    layer.build(X.shape)
    layer.built = True
    return randomize(layer)


def softmax(x):
    exponentials = np.exp(x - x.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def oracle(layer, x):
    """Probabilities of all words: of the head, or of the cluster times of the word in it."""
    x = np.float64(x)
    bias = 0.0 if layer.head.bias is None else to_numpy(layer.head.bias)
    head = softmax(x @ to_numpy(layer.head.kernel) + bias)
    parts = [head[..., : CUTOFFS[0]]]
    for i, (projection, output) in enumerate(zip(layer.projections, layer.outputs, strict=True)):
        within = softmax(x @ to_numpy(projection.kernel) @ to_numpy(output.kernel))
        parts.append(head[..., CUTOFFS[0] + i, None] * within)
    return np.concatenate(parts, -1)


@pytest.mark.parametrize("head_bias", [False, True])
def test_log_probabilities_are_the_papers_and_sum_to_one(head_bias):
    layer = built(head_bias=head_bias)
    received = to_numpy(layer(X))
    assert_close(received, np.log(oracle(layer, X)), factor=2)
    np.testing.assert_allclose(np.exp(received).sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize("capacity", CAPACITIES)
def test_losses_are_the_papers_whatever_the_capacity(capacity):
    layer = built(tail_capacity=capacity)
    expected = -np.log(np.take_along_axis(oracle(layer, X), TARGETS[..., None].astype(int), -1)[..., 0])
    assert_close(layer(X, TARGETS), expected, factor=2)


@pytest.mark.parametrize("capacity", CAPACITIES[1:])
def test_gradients_do_not_depend_on_the_capacity(capacity):
    exact, other = built(), built(tail_capacity=capacity)
    upstream = RNG.normal(size=(B, T))
    assert_close(
        value_and_gradients(lambda x: other(x, TARGETS), [X], upstream),
        value_and_gradients(lambda x: exact(x, TARGETS), [X], upstream),
    )


def test_it_is_pytorchs_layer():
    torch = pytest.importorskip("torch")
    layer = built(head_bias=True)
    theirs = torch.nn.AdaptiveLogSoftmaxWithLoss(D, V, CUTOFFS, div_value=4.0, head_bias=True, dtype=torch.float64)
    with torch.no_grad():
        theirs.head.weight.copy_(torch.tensor(to_numpy(layer.head.kernel).T))
        theirs.head.bias.copy_(torch.tensor(to_numpy(layer.head.bias)))
        for tail, projection, output in zip(theirs.tail, layer.projections, layer.outputs, strict=True):
            tail[0].weight.copy_(torch.tensor(to_numpy(projection.kernel).T))
            tail[1].weight.copy_(torch.tensor(to_numpy(output.kernel).T))
        x = torch.tensor(np.float64(X).reshape(-1, D))
        chosen, _ = theirs(x, torch.tensor(TARGETS.reshape(-1), dtype=torch.int64))
        every = theirs.log_prob(x)
    assert_close(layer(X, TARGETS), -chosen.numpy().reshape(B, T), factor=2)
    assert_close(layer(X), every.numpy().reshape(B, T, V), factor=2)


def test_a_loss_makes_no_tensor_as_large_as_the_vocabulary(monkeypatch):
    layer = AdaptiveSoftmax(1000, [50, 300], tail_capacity=0.25)
    x = ops.ones((40, 16))
    targets = ops.concatenate([ops.zeros((36,), "int32"), ops.full((4,), 900, "int32")])
    layer(x, targets)
    widths = []
    for i, output in enumerate(layer.outputs):

        def watched(rows, i=i, output=output):
            widths.append((i, int(rows.shape[0])))
            return output(rows)

        layer.outputs[i] = watched
    layer._log_probabilities_of(x, targets)
    assert {(0, 10), (1, 10)} <= set(widths)
    if keras.backend.backend() == "torch":  # others trace both branches
        assert set(widths) == {(0, 10), (1, 10)}


def test_negative_targets_count_nothing_and_too_large_ones_are_refused():
    layer = built()
    targets = TARGETS.copy()
    targets[0, :3] = (-1, -100, -2)
    losses = to_numpy(layer(X, targets))
    assert not losses[0, :3].any() and (losses.reshape(-1)[3:] > 0).all()
    targets[0, 0] = V
    with pytest.raises(ValueError, match=f"`targets` must be below.*to {V}, vocabulary_size={V}"):
        layer(X, targets)


def test_the_mask_goes_on_to_losses_and_log_probabilities():
    layer, mask = built(), np.arange(B * T).reshape(B, T) % 3 > 0
    for arguments in ((), (TARGETS,)):
        np.testing.assert_array_equal(mask_of(layer(with_mask(X, mask), *arguments)), mask)


def test_it_trains_in_a_functional_model():
    inputs, targets = keras.Input((None, D)), keras.Input((None,), dtype="int32")
    model = keras.Model([inputs, targets], make(tail_capacity=0.5)(inputs, targets))
    model.compile(keras.optimizers.Adam(0.05), lambda y_true, y_pred: y_pred)
    losses = model.fit([X, TARGETS], TARGETS, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: AdaptiveSoftmax(9, []), r"`cutoffs` must be increasing.*cutoffs=\[\]"),
        (lambda: AdaptiveSoftmax(9, [4, 4]), r"`cutoffs` must be increasing.*cutoffs=\[4, 4\]"),
        (lambda: AdaptiveSoftmax(9, [4, 9]), "`cutoffs` must be increasing.*vocabulary_size=9"),
        (lambda: AdaptiveSoftmax(9, [0]), "`cutoffs` must be a positive integer.*cutoffs=0"),
        (lambda: AdaptiveSoftmax(9, [4], div_value=0.5), "`div_value` must be at least 1.*div_value=0.5"),
        (lambda: AdaptiveSoftmax(9, [4], tail_capacity=0), r"`tail_capacity` must be in \(0, 1\].*tail_capacity=0"),
        (lambda: make()(X, TARGETS[0]), "`targets` must have the shape of `inputs`"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("inputs", "options"),
    [((X,), {"head_bias": True}), ((X, TARGETS), {"tail_capacity": 0.4})],
)
def test_the_promises_of_every_layer(inputs, options):
    # Two words more: in a cluster of one word nothing is learned.
    make = functools.partial(AdaptiveSoftmax, V + 2, CUTOFFS, **options)
    check_layer(make, inputs, output_dtype="float32", tolerance=4)
