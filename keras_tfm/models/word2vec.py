"""Word2Vec: vectors of words from the words around them."""

import keras
import numpy as np
from keras import ops

from keras_tfm.models.token_ids import CheckedTokenIds, check_token_ids

ARCHITECTURES = ("skip_gram", "cbow")
LOSSES = ("negative_sampling", "full_softmax")
POOLINGS = ("mean", "sum")


@keras.saving.register_keras_serializable(package="keras_tfm")
class Word2Vec(CheckedTokenIds, keras.Model):
    """Learns a vector for each word: skip-gram or CBOW, with negative sampling or the full softmax.

    Skip-gram predicts each word of the context from the word in the middle; CBOW the word in the middle from the mean
    (or sum) of the context. There are two tables `[V, D]`: one of the words that predict, `vectors`, and one of those
    that are predicted, `output_vectors`. The model has its loss: `compile` needs an optimizer only. `pairwise_sgd`
    gives vectors like gensim's; Adam, which moves rare words as far as frequent ones, gives other neighbours.

    Negatives are shared by all pairs of a row, so that their scores are one product of matrices `[T, D]` and `[D, M]`;
    the loss weighs them by `num_negatives / M`, which has the same expectation as `num_negatives` drawn for each pair.
    A negative that is the pair's own target is left out, as in word2vec.c and gensim.

    Args:
        vocabulary_size: V. Id 0 is padding.
        embedding_dim: D. Defaults to `100`.
        architecture: `"skip_gram"` (default) or `"cbow"`.
        loss: `"negative_sampling"` (default) or `"full_softmax"`, which sums over all V - 1 words.
        num_negatives: the weight of the negatives, as a number for each pair. Defaults to `5`.
        pooling: `"mean"` (default) or `"sum"`: how CBOW joins the vectors of a context.
        divide_gradient: bool. For the mean, `True` gives each word of a context its share of the gradient, which is
            divided by their number; with `False` (default) each gets the whole, as in word2vec.c and gensim.
        **kwargs: `keras.Model` arguments.

    Call arguments:
        inputs: dict of `"token_ids"`, `"segment_ids"` and `"radii"` int `[B, T]` and, for negative sampling,
            `"negative_ids"` int `[B, M]`, as `keras_tfm.text.Word2VecBatches` makes them: word i and word j of the same
            segment are a pair if `0 < |i - j| <= radii[i]`.

    Returns:
        float32 `[B, T]`: the loss of each word in the middle, summed over its pairs. `fit` takes the mean over pairs;
        for CBOW a word and all its context are one.

    Masking:
        Padding has radius 0 and a segment of its own, 0: it is in no window.

    Raises:
        ValueError: an unknown name, sizes that are no positive integers, or no `"negative_ids"` where they are needed.

    Reference:
        Mikolov et al. 2013a, "Efficient Estimation of Word Representations in Vector Space", section 3 (the two
        architectures); 2013b, "Distributed Representations of Words and Phrases and their Compositionality", equations
        2 (softmax) and 4 (negative sampling).

    Example:

    >>> from keras_tfm.text import Word2VecBatches
    >>> corpus = [[1, 2, 3, 4], [1, 5, 3, 4]] * 8
    >>> batches = Word2VecBatches(corpus, vocabulary_size=6, window=2, row_length=16, subsampling=0)
    >>> model = Word2Vec(6, embedding_dim=4)
    >>> model.compile(model.pairwise_sgd(batches, epochs=2))
    >>> history = model.fit(batches, epochs=2, verbose=0)
    >>> ids, similarities = model.most_similar([2], k=3)
    >>> ids.shape, model.vectors.shape
    ((1, 3), (6, 4))
    """

    def __init__(
        self,
        vocabulary_size,
        embedding_dim=100,
        *,
        architecture="skip_gram",
        loss="negative_sampling",
        num_negatives=5,
        pooling="mean",
        divide_gradient=False,
        **kwargs,
    ):
        _check_names(architecture=(architecture, ARCHITECTURES), loss=(loss, LOSSES), pooling=(pooling, POOLINGS))
        _check_sizes(vocabulary_size=vocabulary_size, embedding_dim=embedding_dim, num_negatives=num_negatives)
        super().__init__(**kwargs)
        self._config = dict(
            vocabulary_size=vocabulary_size,
            embedding_dim=embedding_dim,
            architecture=architecture,
            loss=loss,
            num_negatives=num_negatives,
            pooling=pooling,
            divide_gradient=bool(divide_gradient),
        )
        self.token_id_limits = dict.fromkeys(("token_ids", "negative_ids"), vocabulary_size)
        limit = 1 / embedding_dim  # as gensim; word2vec.c has half of it
        size = (vocabulary_size, embedding_dim)
        uniform = keras.initializers.RandomUniform(-limit, limit)
        self.input_embedding = keras.layers.Embedding(*size, uniform, dtype=self.dtype_policy, name="input_embedding")
        self.output_embedding = keras.layers.Embedding(*size, "zeros", dtype=self.dtype_policy, name="output_embedding")
        self.build()

    def build(self, input_shape=None):
        """Makes the two tables, whose sizes do not depend on the inputs."""
        for embedding in (self.input_embedding, self.output_embedding):
            if not embedding.built:
                embedding.build((None,))
        self.built = True

    def pairwise_sgd(self, batches, epochs, learning_rate=0.025, end_learning_rate=1e-4):
        """The optimizer of word2vec.c and gensim: gradient descent with a rate for each pair, which falls linearly.

        The loss is a mean over the pairs of a batch, so this rate times their number is that of the batch. No row of
        a table moves more than 0.5 at a time, so that words of many pairs do not diverge.

        Args:
            batches, epochs: those of `fit`.
            learning_rate, end_learning_rate: floats, the first and the last rate of a pair.

        Returns:
            a `keras.optimizers.SGD` for `compile`.

        Raises:
            ValueError: `epochs` that is no positive integer.

        Example:

        >>> from keras_tfm.text import Word2VecBatches
        >>> batches = Word2VecBatches([[1, 2, 3]], vocabulary_size=4, window=1, row_length=8, subsampling=0)
        >>> model = Word2Vec(4, embedding_dim=2)
        >>> optimizer = model.pairwise_sgd(batches, epochs=3)
        >>> round(float(optimizer.learning_rate), 6)  # 0.025 times 4 pairs
        0.1
        """
        _check_sizes(epochs=epochs)
        pairs = batches.pairs_per_batch(self._config["architecture"])
        first, last = learning_rate * pairs, end_learning_rate * pairs
        return PairwiseSGD(keras.optimizers.schedules.PolynomialDecay(first, epochs * len(batches), last))

    def call(self, inputs):
        """The loss of each word in the middle of a window."""
        window = _window_matrix(inputs)
        targets = self.output_embedding(inputs["token_ids"])
        hidden = self.input_embedding(inputs["token_ids"])
        if self._config["architecture"] == "skip_gram":
            positive = ops.matmul(hidden, ops.transpose(targets, (0, 2, 1)))
        else:
            hidden = self._pool(hidden, window)
            positive = ops.sum(hidden * targets, axis=-1)
        positive = ops.cast(positive, "float32")
        weights = self._pair_weights(window)
        if self._config["loss"] == "full_softmax":
            return self._full_softmax(hidden, positive, weights)
        return self._negative_sampling(hidden, positive, weights, inputs)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The mean over the pairs of the batch."""
        num_pairs = ops.sum(self._pair_weights(_window_matrix(x)))
        return ops.sum(y_pred) / ops.maximum(num_pairs, 1.0)

    def _pair_weights(self, window):
        """1 at a pair: float32 `[B, T, T]` of word and neighbour, or `[B, T]` for CBOW, a word and all its context."""
        if self._config["architecture"] == "cbow":
            window = ops.any(window, axis=-1)
        return ops.cast(window, "float32")

    def _pool(self, vectors, window):
        window = ops.cast(window, vectors.dtype)
        total = ops.matmul(window, vectors)
        if self._config["pooling"] == "sum":
            return total
        mean = total / ops.maximum(ops.sum(window, axis=-1, keepdims=True), 1.0)
        if self._config["divide_gradient"]:
            return mean
        return total - ops.stop_gradient(total - mean)

    def _per_word(self, pairs):
        return pairs if self._config["architecture"] == "cbow" else ops.sum(pairs, axis=-1)

    def _full_softmax(self, hidden, positive, weights):
        logits = ops.matmul(hidden, ops.transpose(self.output_embedding.embeddings))
        normalizer = ops.logsumexp(ops.cast(logits, "float32")[:, :, 1:], axis=-1)
        return normalizer * self._per_word(weights) - self._per_word(weights * positive)

    def _negative_sampling(self, hidden, positive, weights, inputs):
        if "negative_ids" not in inputs:
            raise ValueError(
                "`inputs` must have 'negative_ids' for loss='negative_sampling': give `Word2VecBatches` a positive "
                f"`negatives_per_row`. Received: inputs={sorted(inputs)}"
            )
        negatives = inputs["negative_ids"]
        negative = ops.matmul(hidden, ops.transpose(self.output_embedding(negatives), (0, 2, 1)))
        negative = ops.sum(ops.softplus(ops.cast(negative, "float32")), axis=-1)
        # A negative that is a pair's target has the score of the pair, so that nothing of [B, T, T, M] is needed.
        is_same = inputs["token_ids"][:, :, None] == negatives[:, None, :]
        repeats = ops.sum(ops.cast(is_same, "float32"), axis=-1)
        if self._config["architecture"] == "skip_gram":
            repeats = repeats[:, None, :]
        ratio = self._config["num_negatives"] / negatives.shape[1]
        of_pairs = ops.softplus(-positive) - ratio * repeats * ops.softplus(positive)
        return self._per_word(weights * of_pairs) + ratio * negative * self._per_word(weights)

    @property
    def vectors(self):
        """The vectors of the words as a numpy array `[V, D]`; row 0, the padding, was never trained."""
        return ops.convert_to_numpy(self.input_embedding.embeddings)

    @property
    def output_vectors(self):
        """The vectors of the words as what is predicted, a numpy array `[V, D]`."""
        return ops.convert_to_numpy(self.output_embedding.embeddings)

    def similarity(self, first_ids, second_ids):
        """Cosines of pairs of words.

        Args:
            first_ids: int, or int array of any shape.
            second_ids: int, or int array; the two must broadcast.

        Returns:
            float array of the broadcast shape, in [-1, 1].
        """
        directions = _directions(self.vectors)
        first, second = (self._check_words(ids) for ids in (first_ids, second_ids))
        return np.sum(directions[first] * directions[second], axis=-1)

    def most_similar(self, ids, k=10):
        """The words whose vectors point most nearly the same way.

        Args:
            ids: int array `[words]`.
            k: int, how many. Defaults to `10`.

        Returns:
            `(ids, similarities)`: int array `[words, k]`, nearest first, and their cosines. Neither a word itself nor
            the padding is among them.

        Raises:
            ValueError: ids outside the vocabulary, or `k` that is not in [1, V - 2].
        """
        ids, most = self._check_words(np.atleast_1d(ids)), self._config["vocabulary_size"] - 2
        if not 1 <= k <= most:
            raise ValueError(f"`k` must be in [1, {most}], the other words. Received: k={k}")
        directions = _directions(self.vectors)
        similarities = directions[ids] @ directions.T
        similarities[:, 0] = similarities[np.arange(len(ids)), ids] = -np.inf
        nearest = np.argsort(-similarities, axis=-1, kind="stable")[:, :k]
        return nearest, np.take_along_axis(similarities, nearest, axis=-1)

    def _check_words(self, ids):
        ids = np.asarray(ids)
        if not np.issubdtype(ids.dtype, np.integer):
            raise ValueError(f"`ids` must be integers. Received: dtype {ids.dtype}")
        check_token_ids("ids", np.atleast_1d(ids), self._config["vocabulary_size"])
        return ids

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), **self._config}


@keras.saving.register_keras_serializable(package="keras_tfm")
class PairwiseSGD(keras.optimizers.SGD):
    """Gradient descent in which no row of a table moves farther than `LONGEST_STEP`."""

    LONGEST_STEP = 0.5

    def update_step(self, gradient, variable, learning_rate):
        """Moves one table."""
        steps = ops.cast(learning_rate, variable.dtype) * ops.cast(ops.convert_to_tensor(gradient), variable.dtype)
        lengths = ops.sqrt(ops.sum(ops.square(steps), axis=-1, keepdims=True))
        self.assign_sub(variable, steps * (self.LONGEST_STEP / ops.maximum(lengths, self.LONGEST_STEP)))


def _window_matrix(inputs):
    """bool `[B, T, T]`: whether the second word is in the window of the first."""
    segments, radii = (ops.convert_to_tensor(inputs[name], "int32") for name in ("segment_ids", "radii"))
    places = ops.arange(ops.shape(segments)[1], dtype="int32")
    distances = ops.abs(places[:, None] - places[None, :])
    is_near = ops.logical_and(distances > 0, distances <= radii[:, :, None])
    return ops.logical_and(is_near, segments[:, :, None] == segments[:, None, :])


def _directions(vectors):
    """The vectors at length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _check_names(**choices):
    for name, (value, known) in choices.items():
        if value not in known:
            raise ValueError(f"`{name}` must be one of {', '.join(known)}. Received: {name}={value!r}")


def _check_sizes(**sizes):
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"`{name}` must be a positive integer. Received: {name}={size!r}")
