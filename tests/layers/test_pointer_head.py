"""PointerHead against the papers' equations in numpy float64."""

import functools

import numpy as np
import pytest

from keras_tfm.layers.pointer_head import PointerHead
from tests.layers.check_layer import check_layer
from tests.numerics import assert_close, mask_of, randomize, to_numpy, value_and_gradients, with_mask

B, T, S, D, E, A, V, W = 2, 3, 5, 7, 11, 4, 9, 6
RNG = np.random.default_rng(0)
QUERY, MEMORY = (RNG.normal(size=size).astype("float32") for size in ((B, T, D), (B, S, E)))
LOGITS = (3 * RNG.normal(size=(B, T, W))).astype("float32")
IDS = np.array(
    [[2, 8, 2, 5, 7], [0, 0, 0, 3, 1]], "int32"
)  # 7 and 8 are words of the source alone; 2 and 0 stand twice
PADDING = np.array([[True, True, True, True, False], [False, True, True, True, True]])


def places(layer, padding):
    """Vinyals et al. 2015, equation 3: probabilities of the places."""
    queries, keys = QUERY @ to_numpy(layer.query_dense.kernel), MEMORY @ to_numpy(layer.key_dense.kernel)
    probabilities = np.zeros((B, T, S))
    for b, t in np.ndindex(B, T):
        real = np.flatnonzero(padding[b])
        energies = [np.exp(to_numpy(layer.vector) @ np.tanh(queries[b, t] + keys[b, s])) for s in real]
        probabilities[b, t, real] = energies / np.sum(energies)
    return probabilities


def words(layer, padding):
    """See et al. 2017, equations 8 and 9: probabilities of the words."""
    attended, result = places(layer, padding), np.zeros((B, T, V))
    for b, t in np.ndindex(B, T):
        generated = np.exp(np.float64(LOGITS[b, t]))
        state = np.concatenate([QUERY[b, t], attended[b, t] @ MEMORY[b]])
        gate = state @ to_numpy(layer.gate.kernel)[:, 0] + to_numpy(layer.gate.bias)[0]
        keep = 1 / (1 + np.exp(-gate))
        result[b, t, :W] = keep * generated / generated.sum()
        for s in range(S):
            result[b, t, IDS[b, s]] += (1 - keep) * attended[b, t, s]
    return result


def built(vocabulary_size=None, **options):
    layer = PointerHead(A, vocabulary_size, **options)
    layer.build(QUERY.shape, MEMORY.shape)
    layer.built = True
    return randomize(layer)


def test_a_pointer_is_the_papers_softmax():
    layer = built()
    output, scores = layer(QUERY, MEMORY, padding_mask=PADDING, return_attention_scores=True)
    expected = places(layer, PADDING)
    assert_close(np.exp(to_numpy(output)), expected)
    assert_close(scores, expected)
    real = np.broadcast_to(PADDING[:, None], expected.shape)
    assert_close(to_numpy(output)[real], np.log(expected[real]))
    assert (to_numpy(output)[~real] == np.float32(-1e30)).all()


def test_a_pointer_generator_is_the_papers_mixture():
    layer = built(V)
    output = to_numpy(layer(QUERY, MEMORY, IDS, LOGITS, padding_mask=PADDING))
    expected = words(layer, PADDING)
    assert_close(np.exp(output), expected)
    said = expected > 0
    assert_close(output[said], np.log(expected[said]))
    assert (output[~said] < -1e29).all() and np.isfinite(output).all()
    np.testing.assert_allclose(np.exp(output).sum(-1), 1, atol=1e-5)


def test_a_word_that_neither_says_is_impossible_and_one_of_the_source_alone_is_not():
    layer = built(V)
    output = np.exp(to_numpy(layer(QUERY, MEMORY, IDS, LOGITS)))
    assert (output[0, :, [7, 8]] > 0).all()
    assert not output[1, :, [6, 7, 8]].any()


def test_a_source_of_padding_alone_is_not_copied_from():
    layer = built(V)
    padding = np.array([[False] * S, [True] * S])
    output, scores = layer(QUERY, MEMORY, IDS, LOGITS, padding_mask=padding, return_attention_scores=True)
    generated = np.exp(np.float64(LOGITS[0]))
    assert_close(np.exp(to_numpy(output))[0, :, :W], generated / generated.sum(-1, keepdims=True))
    assert not to_numpy(scores)[0].any()
    pointer = to_numpy(built()(QUERY, MEMORY, padding_mask=padding))
    assert (pointer[0] == np.float32(-1e30)).all()


@pytest.mark.parametrize("mixes", [False, True])
def test_implicit_masks_apply_and_the_querys_goes_on(mixes):
    layer = built(V if mixes else None)
    others = (IDS, LOGITS) if mixes else ()
    query_mask = np.array([[True, True, False], [True, True, True]])
    output = layer(with_mask(QUERY, query_mask), with_mask(MEMORY, PADDING), *others)
    expected = layer(QUERY, MEMORY, *others, padding_mask=PADDING)
    assert_close(to_numpy(output)[query_mask], to_numpy(expected)[query_mask])
    np.testing.assert_array_equal(mask_of(output), query_mask)


@pytest.mark.parametrize("mixes", [False, True])
def test_padding_does_not_matter_not_even_nan(mixes):
    layer = built(V if mixes else None)
    others = (IDS, LOGITS) if mixes else ()

    def loss(query, memory):
        output = layer(query, memory, *others, padding_mask=PADDING)
        return output[..., 1:4] if not mixes else output[..., :W]

    shape = (B, T, W if mixes else 3)
    expected = value_and_gradients(loss, [QUERY, MEMORY], np.ones(shape))
    assert np.isfinite(expected[0]).all()
    for filler in (1e30, np.inf, np.nan):
        memory = np.where(PADDING[..., None], MEMORY, filler)
        assert_close(value_and_gradients(loss, [QUERY, memory], np.ones(shape)), expected)


def test_gradients_of_the_mixture_are_those_of_finite_differences():
    layer = built(V)
    upstream = RNG.normal(size=(B, T, V)) * (words(layer, PADDING) > 0)

    def function(query, memory, logits):
        return layer(query, memory, IDS, logits, padding_mask=PADDING)

    arrays = [QUERY, MEMORY, LOGITS]
    _, gradients = value_and_gradients(function, arrays, upstream)
    for array, gradient in zip(arrays, gradients, strict=True):
        index = (1, 2, 3)
        direction = np.zeros_like(array)
        direction[index] = 1e-2
        values = []
        for sign in (1, -1):
            moved = [x + sign * direction if x is array else x for x in arrays]
            values.append((to_numpy(function(*moved)) * upstream).sum())
        assert abs((values[0] - values[1]) / 2e-2 - gradient[index]) < 2e-2 * max(1, abs(gradient[index]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PointerHead(0), "`units` must be a positive integer.*units=0"),
        (lambda: PointerHead(A, V)(QUERY, MEMORY), "`memory_ids` must be given with `vocabulary_size`"),
        (lambda: PointerHead(A, V)(QUERY, MEMORY, IDS), "`vocabulary_logits` must be given with"),
        (lambda: PointerHead(A)(QUERY, MEMORY, IDS, LOGITS), "`memory_ids` must be given with .*and only then"),
        (lambda: PointerHead(A, W - 1)(QUERY, MEMORY, IDS, LOGITS), "`vocabulary_logits` must be of at most"),
        (lambda: PointerHead(A, V)(QUERY, MEMORY, IDS + 1, LOGITS), "ids from 1 to 9, vocabulary_size=9"),
        (lambda: PointerHead(A)(QUERY, MEMORY, padding_mask=PADDING[:, 1:]), "`padding_mask` does not fit"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("mixes", [False, True])
def test_the_promises_of_every_layer(mixes):
    logits = RNG.normal(size=(B, T, V)).astype("float32")  # every word is possible, so that every output has a scale
    check_layer(
        functools.partial(PointerHead, A, V if mixes else None),
        (QUERY, MEMORY, IDS, logits) if mixes else (QUERY, MEMORY),
        options={"return_attention_scores": True},
        output_dtype=("float32", None),
        tolerance=8,
    )
