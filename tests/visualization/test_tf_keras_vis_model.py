"""tf-keras-vis sees the models of this package, padding included, and says what our own saliency says."""

import sys
import warnings

import keras
import numpy as np
import pytest
from keras import ops

from keras_tfm import models
from keras_tfm.visualization import gradient_saliency, tf_keras_vis_model

pytest.importorskip("tf_keras_vis")
pytest.importorskip("tensorflow")
pytestmark = pytest.mark.filterwarnings("ignore")  # of what tf-keras-vis imports
on_tensorflow = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="it needs layers of TensorFlow")

IDS = np.array([[4, 5, 6, 7, 0], [8, 9, 0, 0, 0]])
SIZES = dict(num_layers=1, hidden_dim=6, intermediate_dim=7, num_heads=2, dropout=0.3, vocabulary_size=11)


@pytest.fixture(scope="module", params=["tagger", "classifier"])
def looked_at(request):
    """A model, its target, and that target as a score of tf-keras-vis."""
    keras.utils.set_random_seed(1)
    if request.param == "tagger":
        return models.SequenceTagger(3, **SIZES, token_dropout=0.1), (1, 2), lambda logits: logits[:, 1, 2]
    return models.SequenceClassifier(3, **SIZES), 2, lambda logits: logits[:, 2]


@pytest.fixture(scope="module")
def vis(looked_at):
    return tf_keras_vis_model(looked_at[0], IDS)


def saliency_class():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tf_keras_vis.saliency import Saliency
    return Saliency


def test_its_saliency_is_ours(looked_at, vis):
    model, target, score = looked_at
    theirs = saliency_class()(vis.model)(score, vis.embeddings, normalize_map=False)
    ours = gradient_saliency(model, IDS, target).vectors
    np.testing.assert_allclose(theirs, np.abs(ours).max(-1), rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(theirs > 0, IDS != 0)


def test_its_smooth_grad_leaves_padding_alone(looked_at, vis):
    smooth = saliency_class()(vis.model)(looked_at[2], vis.embeddings, smooth_samples=2, normalize_map=False)
    np.testing.assert_array_equal(np.asarray(smooth) > 0, IDS != 0)


@on_tensorflow
def test_grad_cam_of_the_encoder_is_that_by_hand(looked_at, vis):
    from tf_keras_vis.gradcam import Gradcam, GradcamPlusPlus

    model, target, score = looked_at
    options = dict(penultimate_layer="encoder", seek_penultimate_conv_layer=False, normalize_cam=False)
    cam = Gradcam(vis.model)(score, vis.embeddings, **options)
    encoder = keras.Model(vis.model.inputs, vis.model.get_layer("encoder").output)
    encoded = ops.convert_to_numpy(encoder(vis.embeddings))
    kernel = ops.convert_to_numpy(model.get_layer("classes").kernel)[:, 2]
    # The class is linear in the encoder's output, so that its mean gradient over T tokens is the kernel over T.
    np.testing.assert_allclose(cam, np.maximum(encoded @ kernel / IDS.shape[1], 0), rtol=1e-4, atol=1e-6)
    assert GradcamPlusPlus(vis.model)(score, vis.embeddings, **options).shape == IDS.shape


@on_tensorflow
def test_activation_maximization_raises_the_activation(looked_at, vis):
    import tensorflow as tf
    from tf_keras_vis.activation_maximization import ActivationMaximization

    score = looked_at[2]
    options = dict(steps=3, input_modifiers=None, regularizers=None, input_range=(-5.0, 5.0))
    rate = tf.keras.optimizers.RMSprop(0.05)
    found = ActivationMaximization(vis.model)(score, seed_input=vis.embeddings, optimizer=rate, **options)
    before, after = (score(vis.model(np.asarray(x))) for x in (vis.embeddings, found))
    assert (np.asarray(after) > np.asarray(before)).all()
    np.testing.assert_array_equal(np.asarray(found)[IDS == 0], vis.embeddings[IDS == 0])


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tf_keras_vis", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "tf_keras_vis" else name)
    with pytest.raises(ImportError, match="tf_keras_vis missing"):
        tf_keras_vis_model(models.SequenceTagger(3, **SIZES), IDS)
