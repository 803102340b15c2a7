"""The caches of keras_hub's causal models are those of our decoders, as one tensor."""

import numpy as np
import pytest
from keras import ops

from keras_tfm.layers import DecoderCache
from tests.numerics import assert_close

keras_hub = pytest.importorskip("keras_hub")
B, S, L, N, H = 2, 5, 3, 2, 4


def test_a_causal_model_decodes_with_its_cache_through_ours():
    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=11, num_layers=L, num_heads=N, hidden_dim=N * H, intermediate_dim=7, max_sequence_length=S
    )
    model = keras_hub.models.GPT2CausalLM(backbone=backbone, preprocessor=None)
    ids = np.random.default_rng(0).integers(0, 11, (B, S)).astype("int32")
    logits, _, _ = model.call_with_cache(ids, ops.zeros((B, L, 2, S, N, H)), 0)
    _, _, theirs = model.call_with_cache(ids[:, :3], ops.zeros((B, L, 2, S, N, H)), 0)
    ours = DecoderCache.from_keras_hub(theirs)
    assert [tuple(cache.key.shape) for cache in ours.self_attention] == [(B, S, N, H)] * L
    given = ours.trim(3).grown(S).to_keras_hub()
    assert_close(given, theirs)
    after, _, _ = model.call_with_cache(ids[:, 3:], given, 3)
    assert_close(after, logits[:, 3:])
