"""Gradients in plain Keras, the same on every backend: one update, and what the optimizer remembers of it."""

import keras
import numpy as np


def gradients(model, inputs, targets, loss="mse", sample_weight=None):
    """The gradient of the loss by each trainable weight.

    An optimizer with momentum that starts at zero remembers after one update `-learning_rate * gradient`, exactly. The
    weights are put back.

    Args:
        model: a `keras.Model`; it is compiled here.
        inputs, targets, sample_weight: as `train_on_batch` takes them.
        loss: as `compile` takes it.

    Returns:
        A dict of the weights' paths to arrays.
    """
    optimizer = keras.optimizers.SGD(learning_rate=1.0, momentum=0.5)
    before = model.get_weights()
    model.compile(optimizer, loss)
    model.train_on_batch(inputs, targets, sample_weight=sample_weight)
    model.set_weights(before)
    pairs = zip(model.trainable_weights, optimizer.momentums, strict=True)
    return {weight.path: -np.asarray(keras.ops.convert_to_numpy(momentum)) for weight, momentum in pairs}
