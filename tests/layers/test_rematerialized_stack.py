"""`rematerialization`: blocks computed again for the gradient give the numbers and the draws of the first time."""

import keras
import numpy as np
import pytest

from keras_tfm import ops as tfm_ops
from keras_tfm.layers.mixture_of_experts import MixtureOfExperts
from keras_tfm.layers.transformer_encoder import TransformerEncoder
from keras_tfm.layers.transformer_encoder_stack import TransformerEncoderStack
from tests.layers.block_configurations import REAL, REAL_MEMORY, D, N, X
from tests.layers.depth_cases import F, L, model_of, values_after_training
from tests.layers.on_backend import weight_gradients
from tests.numerics import assert_close

BACKEND = keras.backend.backend()
CASES = {
    "dropout and masks": ("encoder", {"dropout": 0.3, "stochastic_depth": 0.2}, {"padding_mask": REAL}),
    "batch statistics, one block for all": (
        "encoder",
        {"normalization": "batch", "placement": "pre", "num_distinct_layers": 1},
        None,
    ),
}
KINDS = ["full", pytest.param("selective", marks=pytest.mark.skipif(BACKEND == "tensorflow", reason="all or nothing"))]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_training_is_that_of_kept_activations(case, kind):
    """The same losses, gradients by their updates, and states: what was dropped is dropped when computed again."""
    side, arguments, masks = CASES[case]
    expected = values_after_training(side, arguments, masks)
    received = values_after_training(side, {**arguments, "rematerialization": kind}, masks)
    assert_close(received, expected, factor=5)


@pytest.mark.parametrize("kind", KINDS)
def test_training_in_a_loop_is_that_of_kept_activations(kind):
    masks = {"encoder_padding_mask": REAL_MEMORY}
    expected = values_after_training("decoder", {"dropout": 0.3}, masks)
    arguments = {"dropout": 0.3, "layer_loop": "scan", "rematerialization": kind}
    assert_close(values_after_training("decoder", arguments, masks), expected, factor=5)


def test_losses_of_blocks_count_once():
    experts = {"feed_forward": MixtureOfExperts(2, F, balance_coefficient=1.0)}
    expected = values_after_training("encoder", experts, steps=1)
    for layer_loop in ("unrolled", "scan"):
        arguments = {**experts, "rematerialization": "full", "layer_loop": layer_loop}
        assert_close(values_after_training("encoder", arguments, steps=1), expected, factor=5)


def test_gradients_outside_of_compiled_steps(monkeypatch):
    """Eager on TensorFlow and PyTorch: each block runs twice, and once if nothing is computed again."""
    calls = []
    call = TransformerEncoder.call

    def counted(self, *arguments, **keywords):
        calls.append(self.name)
        return call(self, *arguments, **keywords)

    gradients, counts = [], []
    for kind in (None, "full"):
        _, stack = model_of("encoder", {"rematerialization": kind, "dropout": 0.3})
        monkeypatch.setattr(TransformerEncoder, "call", counted)
        calls.clear()
        keras.utils.set_random_seed(4)
        gradients.append(weight_gradients(stack, [keras.ops.convert_to_tensor(X)], {}, {"training": True}))
        counts.append(len(calls))
        monkeypatch.undo()
    assert_close(gradients[1], gradients[0], factor=5)
    assert counts == ([L, L] if BACKEND == "jax" else [L, 2 * L])


@pytest.mark.skipif(BACKEND == "jax", reason="traces once")
def test_what_was_forced_for_the_call_is_forced_again():
    """The gradient is asked for where `use_kernel` has ended: the same kernel has to run."""
    seen = []
    _, stack = model_of("encoder", {"rematerialization": "full"})
    with tfm_ops.use_kernel("reference"), observed(seen):
        gradients = forced(stack)
    gradients()
    assert len(seen) == 2 * L and {name for name in seen} == {"reference"}


def observed(seen):
    from keras_tfm.ops.attention import observe_attention

    return observe_attention(lambda request, kernel: seen.append(kernel.name))


def forced(stack):
    """Calls the stack; returns what computes the gradients."""
    x = keras.ops.convert_to_tensor(X)
    if BACKEND == "torch":
        return stack(x, training=True).sum().backward
    import tensorflow as tf

    tape = tf.GradientTape()
    with tape:
        loss = keras.ops.sum(stack(x, training=True))
    return lambda: tape.gradient(loss, [variable.value for variable in stack.trainable_variables])


@pytest.mark.skipif(BACKEND != "torch", reason="measured on the backend whose memory of activations can be asked for")
def test_less_is_kept():
    import torch

    kept = {}
    for kind in (None, "selective", "full"):
        stack = TransformerEncoderStack(4, F, N, rematerialization=kind, placement="pre")
        stack.build((2, 31, D))
        stack.built = True
        sizes = {}

        def pack(tensor, sizes=sizes):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        x = keras.ops.convert_to_tensor(np.random.default_rng(0).normal(size=(2, 31, D)).astype("float32"))
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            stack(x, training=True)
        kept[kind] = sum(sizes.values())
    assert kept["full"] < 0.5 * kept[None]


def test_names_that_are_not_known_are_refused():
    with pytest.raises(ValueError, match="`rematerialization` must be None or one of.*rematerialization='some'"):
        TransformerEncoderStack(L, F, N, rematerialization="some")


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the others have it")
def test_tensorflow_keeps_all_or_nothing():
    stack = TransformerEncoderStack(L, F, N, rematerialization="selective")
    with pytest.raises(ValueError, match="`rematerialization='selective'` needs JAX or PyTorch.*on TensorFlow"):
        stack(X)
