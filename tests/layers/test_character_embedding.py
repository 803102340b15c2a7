"""CharacterEmbedding against a convolution written out in numpy float64."""

import numpy as np
import pytest

from keras_tfm.layers.character_embedding import CharacterEmbedding
from tests.layers.check_layer import check_layer
from tests.numerics import assert_close, mask_of, randomize, to_numpy, with_mask

B, T, C, V, D, E = 2, 3, 5, 11, 7, 4
RNG = np.random.default_rng(0)
IDS = RNG.integers(1, V, (B, T, C)).astype("int32")
IDS[0, 1, 3:] = 0
IDS[1, 2] = 0  # a word without characters


def built(**options):
    layer = CharacterEmbedding(V, D, character_dim=E, **options)
    layer(IDS)
    return randomize(layer)


def oracle(layer, ids):
    """Ma & Hovy 2016, section 2.1: the largest of each filter over the word's characters."""
    table = to_numpy(layer.characters.embeddings)
    kernel, bias = to_numpy(layer.filters.kernel), to_numpy(layer.filters.bias)
    size, before = layer.kernel_size, (layer.kernel_size - 1) // 2
    output = np.zeros((*ids.shape[:2], D))
    for b, t in np.ndindex(ids.shape[:2]):
        word = [table[i] if i else np.zeros(E) for i in ids[b, t]]
        for c in np.flatnonzero(ids[b, t]):
            window = [word[c + k] if 0 <= c + k < len(word) else np.zeros(E) for k in range(-before, size - before)]
            output[b, t] = np.maximum(output[b, t], np.maximum(np.concatenate(window) @ kernel + bias, 0))
    return output


@pytest.mark.parametrize("kernel_size", [1, 2, 3, 4])
def test_it_is_a_convolution_and_a_maximum(kernel_size):
    layer = built(kernel_size=kernel_size)
    assert_close(layer(IDS), oracle(layer, IDS))


def test_how_long_padding_is_does_not_matter():
    layer = built()
    longer = np.concatenate([IDS, np.zeros((B, T, 4), "int32")], axis=-1)
    assert_close(layer(longer), layer(IDS))


def test_a_word_without_characters_is_zero_and_masked():
    output = built()(IDS)
    assert not to_numpy(output)[1, 2].any()
    np.testing.assert_array_equal(mask_of(output), IDS.any(-1))


def test_a_mask_of_the_words_is_kept():
    mask = np.array([[True, True, False], [False, True, True]])
    np.testing.assert_array_equal(mask_of(built()(with_mask(IDS, mask))), mask & IDS.any(-1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CharacterEmbedding(0, D), "`vocabulary_size` must be a positive integer.*vocabulary_size=0"),
        (lambda: CharacterEmbedding(V, D, kernel_size=0), "`kernel_size` must be a positive integer.*kernel_size=0"),
        (lambda: CharacterEmbedding(V, D)(IDS[0]), r"`inputs` must be \[B, T, C\]"),
        (lambda: built()(IDS + 1), "Character ids must be in .*ids from 1 to 11, vocabulary_size=11"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_promises_of_every_layer(dropout):
    def make(**arguments):
        return CharacterEmbedding(V, D, E, dropout=dropout, **arguments)

    check_layer(make, IDS, passes_mask=None)
