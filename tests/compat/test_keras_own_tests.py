"""Keras' own tests of its attention layers, which its wheel brings along, with our class in place of theirs."""

import importlib
import types

import keras
import pytest

from keras_tfm import layers
from tests.compat.pairs import quick_collection

_FOLDER = "keras.src.layers.attention"
multi_head_tests = importlib.import_module(f"{_FOLDER}.multi_head_attention_test")
grouped_query_tests = importlib.import_module(f"{_FOLDER}.grouped_query_attention_test")


@keras.saving.register_keras_serializable(package="compat")
class GroupedQueryAttention(layers.MultiHeadAttention):
    """Our layer under the arguments of Keras' `GroupedQueryAttention`."""

    def __init__(self, head_dim, num_query_heads, num_key_value_heads, **kwargs):
        super().__init__(num_query_heads, head_dim, num_key_value_heads=num_key_value_heads, **kwargs)

    def get_config(self):
        config = super().get_config()
        names = ("num_heads", "key_dim", "value_dim", "output_shape", "attention_axes", "position", "logit_soft_cap")
        heads, head_dim, *_ = [config.pop(name) for name in names]
        return {**config, "head_dim": head_dim, "num_query_heads": heads}


def with_our_classes(module, monkeypatch):
    """Puts our classes where the module of tests looks for Keras'."""
    ours = {"MultiHeadAttention": layers.MultiHeadAttention, "GroupedQueryAttention": GroupedQueryAttention}
    monkeypatch.setattr(module, "layers", types.SimpleNamespace(**{**vars(module.layers), **ours}))


@pytest.fixture(autouse=True)
def _restored_settings():
    yield
    keras.config.enable_flash_attention()


# Keras' own class gets these warnings in its own tests.
@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict:UserWarning")
@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer:UserWarning")
class KerasMultiHeadAttentionTest(multi_head_tests.MultiHeadAttentionTest):
    @pytest.fixture(autouse=True)
    def _ours(self, monkeypatch):
        with_our_classes(multi_head_tests, monkeypatch)

    @pytest.mark.xfail(
        raises=ValueError, strict=True, reason="a mask of floats is refused, and one of rank 2 is taken for padding"
    )
    def test_masking_with_different_shapes(self):
        super().test_masking_with_different_shapes()

    def test_quantize_int8(self):
        with quick_collection():
            super().test_quantize_int8()


class KerasGroupedQueryAttentionTest(grouped_query_tests.GroupedQueryAttentionTest):
    @pytest.fixture(autouse=True)
    def _ours(self, monkeypatch):
        with_our_classes(grouped_query_tests, monkeypatch)

    @pytest.mark.xfail(raises=TypeError, strict=True, reason="the hook has the arguments of `MultiHeadAttention`'s")
    def test_causal_only_skipped_for_subclass(self):
        super().test_causal_only_skipped_for_subclass()

    @pytest.mark.xfail(raises=TypeError, strict=True, reason="query and value may differ in width; the key is no shape")
    def test_shape_mismatch_error_query_value_dim_mismatch(self):
        super().test_shape_mismatch_error_query_value_dim_mismatch()
