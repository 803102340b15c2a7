"""Tasks and trainings of a few seconds, which the questions share."""

import keras
import numpy as np

from keras_tfm import layers


def fit(model, inputs, targets, learning_rate=3e-3, batch_size=32, epochs=1):
    """Trains on arrays with Adam, in the order that they have; returns the loss of each epoch."""
    optimizer = keras.optimizers.Adam(learning_rate)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(inputs, targets, batch_size, epochs, verbose=0, shuffle=False)
    return [float(loss) for loss in history.history["loss"]]


def accuracy(model, inputs, targets):
    """The share of targets that are the most probable class."""
    logits = np.asarray(keras.ops.convert_to_numpy(model.predict_on_batch(inputs)))
    return float(np.mean(logits.argmax(-1) == targets))


def token_model(transform, vocabulary_size, width=32, length=64, classes=None, position="sinusoidal"):
    """Ids `[B, T]`, embedding with positions, what `transform` makes of it, and logits `[B, T, classes]`."""
    ids = keras.Input((None,), dtype="int32")
    embedding = layers.PositionalEmbedding(
        vocabulary_size, length, width, position=position, embeddings_initializer=keras.initializers.RandomNormal(1.0)
    )
    return keras.Model(ids, keras.layers.Dense(classes or vocabulary_size)(transform(embedding(ids))))


def random_ids(rng, rows, length, vocabulary_size):
    """Ids `[rows, length]` from 0 to V - 1, all alike probable."""
    return rng.integers(0, vocabulary_size, (rows, length)).astype("int32")
