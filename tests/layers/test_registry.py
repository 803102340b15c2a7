"""Layers by name, config or themselves."""

import pytest

from keras_tfm import layers


def test_every_public_layer_has_its_names():
    for name in layers.__all__:
        if isinstance(getattr(layers, name), type) and name not in ("DecoderCache",):
            with pytest.raises((TypeError, ValueError)) as error:
                layers.get(name, no_such_argument=1)
            assert "did you mean" not in str(error.value)
    assert type(layers.get("multi_head_attention", num_heads=2, key_dim=3)) is layers.MultiHeadAttention
    assert type(layers.get("FeedForward", intermediate_dim=3)) is layers.FeedForward
    assert type(layers.get("transformer_xl_position")) is layers.TransformerXLPosition


@pytest.mark.parametrize(
    "name, kind",
    [
        ("rope", "RotaryEmbedding"),
        ("additive", "AdditiveScore"),
        ("talking_heads", "TalkingHeads"),
        ("rezero", "ReZero"),
    ],
)
def test_parts_have_short_names(name, kind):
    assert type(layers.get(name)).__name__ == kind


def test_layers_configs_and_none_pass():
    layer = layers.RotaryEmbedding(max_wavelength=77)
    assert layers.get(layer) is layer and layers.get(None) is None
    import keras

    copy = layers.get(keras.saving.serialize_keras_object(layer))
    assert type(copy) is layers.RotaryEmbedding and copy.max_wavelength == 77


def test_what_is_no_name_is_refused():
    with pytest.raises(ValueError, match="identifier='feed_foward'; did you mean 'feed_forward'"):
        layers.get("feed_foward")
    with pytest.raises(ValueError, match="`identifier` must be a name"):
        layers.get(3)
    with pytest.raises(ValueError, match="Arguments go with a name"):
        layers.get(None, num_heads=2)
