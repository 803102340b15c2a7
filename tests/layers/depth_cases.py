"""What the tests of scanned and of rematerialized stacks share: one training step of a stack, and of its plain twin."""

import keras
import numpy as np

from keras_tfm.layers.transformer_decoder_stack import TransformerDecoderStack
from keras_tfm.layers.transformer_encoder_stack import TransformerEncoderStack
from tests.layers.block_configurations import MEMORY, D, N, X
from tests.numerics import randomize, to_numpy

F, L = 11, 2
STACKS = {"encoder": TransformerEncoderStack, "decoder": TransformerDecoderStack}
INPUTS = {"encoder": [X], "decoder": [X, MEMORY]}


def model_of(side, arguments, masks=None):
    """A compiled model of one stack, and that stack; equal calls give equal models."""
    keras.utils.set_random_seed(3)
    stack = STACKS[side](**{"num_layers": L, "intermediate_dim": F, "num_heads": N, **arguments})
    inputs = [keras.Input((None, D)) for _ in INPUTS[side]]
    masks = {name: keras.Input(mask.shape[1:], dtype=str(mask.dtype)) for name, mask in (masks or {}).items()}
    model = keras.Model([*inputs, *masks.values()], stack(*inputs, **masks))
    randomize(stack)
    model.compile(keras.optimizers.SGD(1.0), "mse", jit_compile=keras.backend.backend() != "torch")
    return model, stack


def values_after_training(side, arguments, masks=None, steps=2):
    """The losses of some steps, and all variables after them, weights and states of random generators."""
    model, stack = model_of(side, arguments, masks)
    arrays = [*INPUTS[side], *(masks or {}).values()]
    keras.utils.set_random_seed(4)  # PyTorch draws from its own generator
    losses = [np.asarray(float(model.train_on_batch(arrays, X))) for _ in range(steps)]
    return losses + [to_numpy(variable) for variable in stack.variables]
