"""A softmax over many words whose rare ones cost little."""

import itertools

import keras
from keras import ops

from keras_tfm import backend
from keras_tfm.layers.parts import clone_initializer
from keras_tfm.layers.position_checks import check_positive_integer
from keras_tfm.ops.adaptive_softmax import tail_log_probabilities, target_log_probabilities


@keras.saving.register_keras_serializable(package="keras_tfm")
class AdaptiveSoftmax(keras.layers.Layer):
    """Log-probabilities over V words sorted by frequency: frequent ones in a head, rare ones in clusters of a tail.

    The head decides among the first words and the clusters. Each cluster of rarer words works on a smaller projection
    of the input, D / 4, D / 16 and so on, and for a loss only on the tokens whose target is in it.

    Args:
        vocabulary_size: V. Word ids must be sorted by frequency, the most frequent first.
        cutoffs: increasing ids, each in `[1, V)`: the head has words below the first, and each further one starts a
            cluster.
        div_value: by how much each cluster's projection is smaller than that of the one before. Defaults to 4.
        head_bias: whether the head has a bias. Defaults to `False`.
        tail_capacity: share in (0, 1] of the tokens that a cluster works on at once for a loss. If more tokens than
            that have their target there, all are worked on, so that it changes no result. `None` works on all.
        kernel_initializer: for all kernels. Defaults to `"glorot_uniform"`.
        bias_initializer: of the head. Defaults to `"zeros"`.
        **kwargs: `keras.layers.Layer` arguments.

    Call arguments:
        inputs: float `[..., D]`.
        targets: int `[...]`, words in `[0, V)`, or negative where there is none; `None` asks for all words.

    Returns:
        With targets the losses `-log p(target)`, float32 `[...]`, and no tensor as large as V is made; without, the
        log-probabilities of all words, float32 `[..., V]`, for decoding.

    Masking:
        Passes the mask of its input on. A negative target has loss 0.

    Numerics:
        Logits follow the policy, log-probabilities and losses are float32.

    Raises:
        ValueError: cutoffs that are not increasing or not in `[1, V)`; a target of V or more where it can be read. In
            compiled code its loss is NaN.

    Reference:
        Grave et al. 2017, "Efficient softmax approximation for GPUs", section 4.

    Example:

    >>> import keras
    >>> layer = AdaptiveSoftmax(vocabulary_size=1000, cutoffs=[100, 400])
    >>> x = keras.random.normal((2, 5, 32))
    >>> losses = layer(x, keras.ops.convert_to_tensor([[3, 200, 0, 999, 7], [1, 2, 3, 4, -1]]))
    >>> tuple(losses.shape), tuple(layer(x).shape)
    ((2, 5), (2, 5, 1000))
    """

    def __init__(
        self,
        vocabulary_size,
        cutoffs,
        div_value=4.0,
        head_bias=False,
        tail_capacity=None,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.vocabulary_size = check_positive_integer("vocabulary_size", vocabulary_size)
        self.cutoffs = _check_cutoffs(cutoffs, vocabulary_size)
        if div_value < 1:
            raise ValueError(f"`div_value` must be at least 1. Received: div_value={div_value!r}")
        if tail_capacity is not None and not 0 < tail_capacity <= 1:
            raise ValueError(f"`tail_capacity` must be in (0, 1] or None. Received: tail_capacity={tail_capacity!r}")
        self.div_value = div_value
        self.head_bias = head_bias
        self.tail_capacity = tail_capacity
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, inputs_shape, targets_shape=None):
        """Makes the head, and a projection and an output for each cluster, for inputs `[..., D]`."""
        del targets_shape
        width = inputs_shape[-1]
        self.head = self._make_dense("head", width, self.cutoffs[0] + self.num_clusters, self.head_bias)
        self.projections, self.outputs = [], []
        for i, (first, end) in enumerate(self._clusters()):
            size = max(1, int(width // self.div_value ** (i + 1)))
            self.projections.append(self._make_dense(f"projection_{i}", width, size))
            self.outputs.append(self._make_dense(f"output_{i}", size, end - first))

    @property
    def num_clusters(self):
        """How many clusters the tail has."""
        return len(self.cutoffs)

    def _clusters(self):
        """`(first, end)` of the words of each cluster."""
        return list(itertools.pairwise([*self.cutoffs, self.vocabulary_size]))

    def _make_dense(self, name, width, units, use_bias=False):
        dense = keras.layers.Dense(
            units,
            use_bias=use_bias,
            kernel_initializer=clone_initializer(self.kernel_initializer),
            bias_initializer=clone_initializer(self.bias_initializer),
            dtype=self.dtype_policy,
            name=name,
        )
        dense.build((None, width))
        return dense

    def call(self, inputs, targets=None):
        """Losses of the targets, or log-probabilities of all words."""
        if targets is None:
            return self.log_probabilities(inputs)
        self._check_targets(inputs, targets)
        shape = ops.shape(targets)
        inputs = ops.reshape(inputs, (-1, inputs.shape[-1]))
        targets = ops.reshape(ops.cast(targets, "int32"), (-1,))
        losses = -self._log_probabilities_of(inputs, targets)
        losses = ops.where(targets < self.vocabulary_size, losses, float("nan"))
        return ops.reshape(ops.where(targets < 0, 0.0, losses), shape)

    def _log_probabilities_of(self, inputs, targets):
        choices, in_tail = targets, 0.0
        for i, (first, end) in enumerate(self._clusters()):
            is_here = ops.logical_and(targets >= first, targets < end)
            choices = ops.where(is_here, self.cutoffs[0] + i, choices)
            hidden = self.projections[i](inputs)
            in_tail = in_tail + tail_log_probabilities(
                self.outputs[i], hidden, targets - first, is_here, self._capacity(inputs)
            )
        return target_log_probabilities(self.head(inputs), choices) + in_tail

    def _capacity(self, inputs):
        if self.tail_capacity is None:
            return None
        num_tokens = ops.shape(inputs)[0]
        if isinstance(num_tokens, int):
            return max(1, int(num_tokens * self.tail_capacity))
        return ops.maximum(1, ops.cast(ops.cast(num_tokens, "float32") * self.tail_capacity, "int32"))

    def log_probabilities(self, inputs):
        """float32 `[..., V]`, the log-probabilities of all words."""
        head = _log_softmax(self.head(inputs))
        parts = [head[..., : self.cutoffs[0]]]
        for i, (project, output) in enumerate(zip(self.projections, self.outputs, strict=True)):
            cluster = head[..., self.cutoffs[0] + i]
            parts.append(cluster[..., None] + _log_softmax(output(project(inputs))))
        return ops.concatenate(parts, axis=-1)

    def _check_targets(self, inputs, targets):
        if len(targets.shape) != len(inputs.shape) - 1:
            raise ValueError(
                "`targets` must have the shape of `inputs` without its last axis. "
                f"Received: targets.shape={tuple(targets.shape)}, inputs.shape={tuple(inputs.shape)}"
            )
        span = backend.value_range(targets)
        if span is not None and span[1] >= self.vocabulary_size:
            raise ValueError(
                "`targets` must be below vocabulary_size. "
                f"Received: targets from {span[0]} to {span[1]}, vocabulary_size={self.vocabulary_size}"
            )

    def compute_output_spec(self, inputs, targets=None):
        """float32 `[...]` with targets, `[..., V]` without."""
        shape = inputs.shape[:-1] if targets is not None else (*inputs.shape[:-1], self.vocabulary_size)
        return keras.KerasTensor(shape, dtype="float32")

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "cutoffs": self.cutoffs,
            "div_value": self.div_value,
            "head_bias": self.head_bias,
            "tail_capacity": self.tail_capacity,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }


def _log_softmax(logits):
    # Keras warns of a softmax over one element; a cluster of one word is no mistake.
    logits = ops.cast(logits, "float32")
    return logits - logits if logits.shape[-1] == 1 else ops.log_softmax(logits, axis=-1)


def _check_cutoffs(cutoffs, vocabulary_size):
    cutoffs = [check_positive_integer("cutoffs", cutoff) for cutoff in cutoffs]
    if not cutoffs or sorted(set(cutoffs)) != cutoffs or cutoffs[-1] >= vocabulary_size:
        raise ValueError(
            "`cutoffs` must be increasing integers in [1, vocabulary_size), at least one. "
            f"Received: cutoffs={cutoffs}, vocabulary_size={vocabulary_size}"
        )
    return cutoffs
