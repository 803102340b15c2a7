"""Question 15, how encoder and decoder interact: a sentence reversed, with its memory, another's, and none."""

import keras
import numpy as np
from keras import ops

from docs.generate.questions.pictures import heat_maps
from docs.generate.questions.tiny_training import fit, random_ids
from keras_tfm import layers

LENGTH, VOCABULARY, WIDTH, START = 6, 12, 32, 12


def measure(seed=0, steps=500):
    """One encoder block, one decoder block, teacher forcing."""
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    source, unseen = random_ids(rng, 32 * steps, LENGTH, VOCABULARY), random_ids(rng, 200, LENGTH, VOCABULARY)
    encoder, decoder, looking, model = _models()
    fit(model, [source, _shifted(source)], source[:, ::-1], learning_rate=3e-3)
    memory = np.asarray(ops.convert_to_numpy(encoder.predict_on_batch(unseen)))
    memories = {"own": memory, "other": np.roll(memory, 1, axis=0), "none": np.zeros_like(memory)}
    figures = {"steps": steps}
    for name, each in memories.items():
        logits = np.asarray(ops.convert_to_numpy(decoder.predict_on_batch([_shifted(unseen), each])))
        figures[f"accuracy_{name}"] = float(np.mean(logits.argmax(-1) == unseen[:, ::-1]))
    found = looking.predict_on_batch([_shifted(unseen), memory])
    own, cross = (np.asarray(ops.convert_to_numpy(scores), "float64").mean((0, 1)) for scores in found)
    figures.update({"scores_own": own.round(3).tolist(), "scores_cross": cross.round(3).tolist()})
    figures["mirrored"] = float(np.diagonal(cross[:, ::-1]).mean())
    return figures


def _shifted(source):
    """The reversed sentence, begun with START and without its last token: what the decoder reads."""
    return np.concatenate([np.full((len(source), 1), START, "int32"), source[:, :0:-1]], axis=1)


def _models():
    """The encoder, the decoder on a memory, its scores on one, and both together."""
    source, target = (keras.Input((LENGTH,), dtype="int32") for _ in range(2))
    memory = keras.Input((LENGTH, WIDTH))
    initializer = keras.initializers.RandomNormal(1.0)
    embed = layers.PositionalEmbedding(
        START + 1, LENGTH, WIDTH, position="sinusoidal", embeddings_initializer=initializer
    )
    encoder = keras.Model(source, layers.TransformerEncoder(64, 2)(embed(source)))
    x, own, cross = layers.TransformerDecoder(64, 2)(embed(target), memory, return_attention_scores=True)
    decoder = keras.Model([target, memory], keras.layers.Dense(VOCABULARY)(x))
    looking = keras.Model([target, memory], [own, cross])
    return encoder, decoder, looking, keras.Model([source, target], decoder([target, encoder(source)]))


def draw(figures, path):
    """The decoder's two attentions."""
    panels = {
        "self-attention: what is written": figures["scores_own"],
        "cross attention: the source": figures["scores_cross"],
    }
    heat_maps(panels, path, x_label="key", y_label="query (target position)")
