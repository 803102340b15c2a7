"""How much each token of the input has to do with one number of the output: four measures by gradients.

Token ids have no gradient, so all are taken at the embedded tokens, on every backend, for any Functional model.
"""

from typing import NamedTuple

import numpy as np
from keras import ops

from keras_tfm import backend
from keras_tfm.visualization.embedded_model import EmbeddedModel


class Saliency(NamedTuple):
    """What the tokens have to do with one output.

    Attributes:
        scores: float32 numpy `[B, T]`, one number a token; exactly 0 at padding that the model masks.
        vectors: float32 numpy `[B, T, D]`, what the scores are made of.
        outputs: float32 numpy `[B]`, the outputs that were looked at.
        residuals: float32 numpy `[B]`, of integrated gradients alone: by how much the sum of the scores misses the
            change of the output; else `None`.
    """

    scores: np.ndarray
    vectors: np.ndarray
    outputs: np.ndarray
    residuals: np.ndarray | None = None


def gradient_saliency(model, inputs, target=None):
    """The length of the gradient at each token: how much a small change of it changes the output, in any direction.

    Args:
        model: a Functional model that embeds token ids, or an `EmbeddedModel` of it, which is quicker to use again and
            says which input is meant.
        inputs: what the model takes: an array, a list of arrays, or a dict by name, with B rows.
        target: which output, of logits `[B, C]`: a class, int or int `[B]`; of `[B, T, C]`: a pair `(token, class)` of
            such; or a function of the model's output that returns `[B]`. `None` means the class with the largest
            logit, which needs logits `[B, C]`; so does `(token, None)` for one token.

    Returns:
        A `Saliency`; scores are not negative.

    Raises:
        ValueError: the target does not fit the output.

    Reference:
        Simonyan et al. 2014, "Deep Inside Convolutional Networks", section 3; Li et al. 2016, "Visualizing and
        Understanding Neural Models in NLP", section 5.

    Example:

    >>> import numpy as np
    >>> from keras_tfm.models import SequenceTagger
    >>> model = SequenceTagger(5, 1, 16, 32, 2, vocabulary_size=30)
    >>> saliency = gradient_saliency(model, np.array([[4, 5, 6, 0]]), target=(1, 3))
    >>> (saliency.scores[0] > 0).tolist()
    [True, True, True, False]
    """
    look = _Look(model, inputs, target)
    outputs, vectors = look.gradients(look.embeddings)
    return Saliency(np.sqrt((vectors**2).sum(-1)), vectors, outputs)


def gradient_times_input(model, inputs, target=None):
    """The product of gradient and embedded token: what the token adds to the output, were the model linear.

    Args:
        model, inputs, target: as `gradient_saliency` has them.

    Returns:
        A `Saliency`; a positive score speaks for the target.

    Raises:
        ValueError: the target does not fit the output.

    Reference:
        Shrikumar et al. 2017, "Not Just a Black Box: Learning Important Features Through Propagating Activation
        Differences", section 2.

    Example:

    >>> import numpy as np
    >>> from keras_tfm.models import SequenceTagger
    >>> model = SequenceTagger(5, 1, 16, 32, 2, vocabulary_size=30)
    >>> gradient_times_input(model, np.array([[4, 5, 6, 0]]), target=(1, None)).scores.shape
    (1, 4)
    """
    look = _Look(model, inputs, target)
    outputs, gradients = look.gradients(look.embeddings)
    vectors = gradients * look.embeddings
    return Saliency(vectors.sum(-1), vectors, outputs)


def integrated_gradients(model, inputs, target=None, *, baseline=None, num_steps=32, batch_size=64):
    """The gradient on the way from a baseline to the input: what each token adds to the output, all told.

    The scores of a row sum to the output less that of the baseline, up to the error of the integral (`residuals`).

    Args:
        model, inputs, target: as `gradient_saliency` has them.
        baseline: the embedded tokens to start from: `None` for zeros; an id, which stands for every real token then
            (those of `inputs` that are not 0); or a float array that broadcasts to `[B, T, D]`.
        num_steps: points of the integral, by Gauss and Legendre's rule. Defaults to 32.
        batch_size: rows that go through the model at once, at least. Defaults to 64.

    Returns:
        A `Saliency`; a positive score speaks for the target.

    Raises:
        ValueError: the target does not fit the output, or a number is not positive.

    Reference:
        Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks", equation 1 and proposition 1
        (completeness).

    Example:

    >>> import numpy as np
    >>> from keras_tfm.models import SequenceTagger
    >>> model = SequenceTagger(5, 1, 16, 32, 2, vocabulary_size=30)
    >>> saliency = integrated_gradients(model, np.array([[4, 5, 6, 0]]), target=(1, 3), num_steps=4)
    >>> saliency.scores.shape, saliency.residuals.shape
    ((1, 4), (1,))
    """
    _check_positive(num_steps=num_steps, batch_size=batch_size)
    look = _Look(model, inputs, target)
    start = np.broadcast_to(look.baseline(baseline), look.embeddings.shape)
    way = look.embeddings - start
    points, weights = np.polynomial.legendre.leggauss(num_steps)
    points = start + (points.reshape(-1, 1, 1, 1).astype("float32") + 1) / 2 * way
    gradients = look.mean_gradients(points, weights / 2, batch_size)
    vectors = (way * gradients).astype("float32")
    scores, outputs = vectors.sum(-1), look.outputs(look.embeddings)
    return Saliency(scores, vectors, outputs, scores.sum(-1) - (outputs - look.outputs(start)))


def smooth_grad(model, inputs, target=None, *, num_samples=32, noise=0.2, seed=0, batch_size=64):
    """The length of the mean of gradients around the input: what is left where single gradients jump about.

    Args:
        model, inputs, target: as `gradient_saliency` has them.
        num_samples: how many noisy copies. Defaults to 32.
        noise: standard deviation of the noise, as a share of the range of the row's embedded tokens. Defaults to 0.2.
        seed: of the noise, an int.
        batch_size: rows that go through the model at once, at least. Defaults to 64.

    Returns:
        A `Saliency`; scores are not negative.

    Raises:
        ValueError: the target does not fit the output, or a number is not positive.

    Reference:
        Smilkov et al. 2017, "SmoothGrad: removing noise by adding noise", section 3.

    Example:

    >>> import numpy as np
    >>> from keras_tfm.models import SequenceTagger
    >>> model = SequenceTagger(5, 1, 16, 32, 2, vocabulary_size=30)
    >>> smooth_grad(model, np.array([[4, 5, 6, 0]]), target=(1, 3), num_samples=4).scores.shape
    (1, 4)
    """
    _check_positive(num_samples=num_samples, batch_size=batch_size)
    if not noise >= 0:
        raise ValueError(f"`noise` must not be negative. Received: noise={noise!r}")
    look = _Look(model, inputs, target)
    x = look.embeddings
    width = x.max(axis=(1, 2), keepdims=True) - x.min(axis=(1, 2), keepdims=True)
    draws = np.random.default_rng(seed).standard_normal((num_samples, *x.shape), dtype="float32")
    vectors = look.mean_gradients(x + noise * width * draws, np.full(num_samples, 1 / num_samples), batch_size)
    return Saliency(np.sqrt((vectors**2).sum(-1)), vectors, look.outputs(x))


class _Look:
    """A model, a batch, and which output is looked at."""

    def __init__(self, model, inputs, target):
        self._parts = model if isinstance(model, EmbeddedModel) else EmbeddedModel(model)
        self._inputs = self._parts.arrays(inputs)
        self.embeddings = self._parts.embed(self._inputs)
        self._choose = target if callable(target) else self._chooser(target)

    def _chooser(self, target):
        is_pair = isinstance(target, tuple) and len(target) == 2
        batch = len(self.embeddings)
        logits = ops.convert_to_numpy(ops.cast(self._parts.call_rest(self.embeddings, self._inputs), "float32"))
        if logits.ndim != 2 + is_pair:
            raise ValueError(
                "`target` must be a class for logits [B, C], and a pair (token, class) for logits [B, T, C]. "
                f"Received: target={target!r}, logits of shape {logits.shape}"
            )
        token, label = target if is_pair else (0, target)
        tokens = _indices("token", token, logits.shape[1] if is_pair else 1, batch)
        row = logits.reshape(batch, -1, logits.shape[-1])[np.arange(batch), tokens]
        labels = row.argmax(-1) if label is None else _indices("class", label, row.shape[-1], batch)
        per_row = logits[0].size
        places = tokens * row.shape[-1] + labels

        def choose(outputs):
            rows = np.arange(outputs.shape[0])
            flat = rows * per_row + np.tile(places, outputs.shape[0] // batch)
            return ops.take(ops.reshape(outputs, (-1,)), ops.convert_to_tensor(flat.astype("int32")))

        return choose

    def baseline(self, baseline):
        """Embedded tokens `[B, T, D]`, or what broadcasts to them."""
        if baseline is None:
            return np.zeros_like(self.embeddings)
        if isinstance(baseline, (int, np.integer)):
            return self._parts.embed(self._parts.with_token(self._inputs, int(baseline)))
        return np.asarray(baseline, "float32")

    def outputs(self, embeddings):
        """The chosen output of each row, float32 `[B]`."""
        outputs = self._choose(self._parts.call_rest(embeddings, self._inputs))
        return np.asarray(ops.convert_to_numpy(ops.cast(outputs, "float32")))

    def gradients(self, embeddings):
        """`(outputs [R], gradients [R, T, D])` for R rows of embedded tokens, R a multiple of B."""
        times = len(embeddings) // len(self.embeddings)
        inputs = [ops.tile(x, (times, *(1 for _ in x.shape[1:]))) for x in self._inputs]

        def function(embeddings):
            return self._choose(self._parts.call_rest(embeddings, inputs))

        outputs, (gradients,) = backend.vector_jacobian_product(function, [embeddings], np.ones(len(embeddings)))
        return [np.asarray(ops.convert_to_numpy(ops.cast(x, "float32"))) for x in (outputs, gradients)]

    def mean_gradients(self, points, weights, batch_size):
        """The weighted sum over S of the gradients at `points [S, B, T, D]`, some points at a time."""
        at_once = max(batch_size // points.shape[1], 1)
        total = np.zeros(points.shape[1:], "float64")
        for start in range(0, len(points), at_once):
            part = points[start : start + at_once].astype("float32")
            _, gradients = self.gradients(part.reshape(-1, *part.shape[2:]))
            total += np.tensordot(weights[start : start + at_once], gradients.reshape(part.shape), 1)
        return total.astype("float32")


def _indices(name, index, size, batch):
    indices = np.broadcast_to(np.asarray(index), (batch,))
    if indices.dtype.kind not in "iu" or not ((indices >= 0) & (indices < size)).all():
        raise ValueError(f"The {name} of `target` must be in [0, {size}). Received: {index!r}")
    return indices.astype("int64")


def _check_positive(**numbers):
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or number <= 0:
            raise ValueError(f"`{name}` must be a positive integer. Received: {name}={number!r}")
