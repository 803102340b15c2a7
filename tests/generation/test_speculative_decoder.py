"""Speculative decoding of decoders with caches: rows go back and on in the caches at places of their own."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

from keras_tfm.backend import compile_loop
from keras_tfm.generation.drafter import DraftModel
from keras_tfm.generation.greedy import greedy_search
from keras_tfm.generation.prompt_lookup import PromptLookup
from keras_tfm.generation.speculative import speculative_search
from keras_tfm.layers import TransformerDecoderStack
from tests.numerics import randomize

B, V, D, L, G = 3, 11, 12, 9, 3
STARTS = np.array([0, 5, 7], "int32")


class LanguageModel:
    """An embedding, decoder blocks and a head, and the two steps that decode it."""

    def __init__(self, num_layers, seed=0):
        keras.utils.set_random_seed(seed)
        self.embedding = keras.layers.Embedding(V, D, embeddings_initializer="normal")
        self.decoder = TransformerDecoderStack(num_layers, intermediate_dim=13, num_heads=3, position="rope")
        self.head = keras.layers.Dense(V)
        self.head(self.decoder(self.embedding(np.zeros((B, 2), "int32"))))
        randomize(self.decoder, seed, scale=0.4)
        self.embedding.embeddings.assign(np.random.default_rng(seed).normal(size=(V, D)))
        self.head.kernel.assign(np.random.default_rng(seed + 1).normal(size=(D, V)))

    @property
    def variables(self):
        return [*self.embedding.variables, *self.decoder.variables, *self.head.variables]

    def extend(self, tokens, index, state):
        x, state = self.decoder(self.embedding(tokens), cache=state, cache_update_index=index)
        return self.head(x), state

    def step(self, tokens, index, state):
        logits, state = self.extend(tokens[:, None], index, state)
        return logits[:, 0], state


@functools.cache
def models():
    return LanguageModel(2), LanguageModel(1, seed=3)


@pytest.mark.parametrize("drafter", ["itself", "smaller", "lookup"])
@pytest.mark.parametrize("is_compiled", [False, True])
def test_it_is_greedy_search_with_the_same_caches(drafter, is_compiled):
    model, small = models()
    small = model if drafter == "itself" else small

    def greedy(starts):
        return greedy_search(model.step, model.decoder.create_cache(B, L), starts, max_length=L, end_id=1)

    def speculate(starts):
        return speculative_search(
            model.extend,
            model.decoder.create_cache(B, L + G),
            PromptLookup() if drafter == "lookup" else DraftModel(small.extend),
            starts,
            draft_state=() if drafter == "lookup" else small.decoder.create_cache(B, L + G),
            max_length=L,
            num_draft_tokens=G,
            end_id=1,
        )

    if is_compiled:
        speculate = compile_loop(speculate, [*model.variables, *small.variables])
    expected = [ops.convert_to_numpy(ops.stop_gradient(each)) for each in greedy(STARTS)]
    results = [ops.convert_to_numpy(ops.stop_gradient(each)) for each in speculate(ops.convert_to_tensor(STARTS))]
    for received, wanted in zip(results, expected, strict=False):
        np.testing.assert_allclose(received, wanted, rtol=1e-4, atol=1e-4)
    if drafter == "itself":
        np.testing.assert_array_equal(results[3], -(-expected[2] // (G + 1)))
