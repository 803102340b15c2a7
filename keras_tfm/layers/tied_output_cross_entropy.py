"""A loss on features: the cross-entropy of the logits that an output projection would give, which are never made."""

import numbers

import keras
import numpy as np
from keras import ops

from keras_tfm.layers.positional_embedding import PositionalEmbedding
from keras_tfm.layers.reversible_projection import ReversibleProjection
from keras_tfm.ops.linear_cross_entropy import linear_cross_entropy

_MEANS = ("sum_over_batch_size", "mean")


# It lies among the layers because it reads their weights and uses `ops`, which the room of training does not see.
@keras.saving.register_keras_serializable(package="keras_tfm")
class TiedOutputCrossEntropy(keras.losses.Loss):
    """`TokenCrossEntropy` for a model whose output is features `[B, T, D]`, projected to V classes by the loss itself.

    The projection is a layer of the model, usually the embedding of its tokens: the gradient reaches its weights, and
    the logits `[B, T, V]` are never held (see `ops.linear_cross_entropy`). Tokens that do not count cost nothing. For
    predictions, call the projection on the features: `embedding(features, reverse=True)`.

    Args:
        projection: a layer of the model that is trained: `PositionalEmbedding` or `TokenAndPositionEmbedding`,
            `keras.layers.Embedding` or `ReversibleEmbedding`, `ReversibleProjection` (reversed), or
            `keras.layers.Dense` without an activation; or a `keras.Variable` `[V, D]` of the model.
        label_smoothing: ε in [0, 1). Defaults to 0.
        ignore_id: target id whose tokens do not count, a negative id such as -100 included; `None` counts every token
            whose target is not negative. Defaults to 0, the pad id.
        logit_soft_cap: logits z become `cap * tanh(z / cap)`. Defaults to `None`: that of the projection, if any.
        chunk_size: how many tokens are worked on at once. Defaults to `None`: as `ops.linear_cross_entropy` chooses.
        reduction: as in `TokenCrossEntropy`, `"sum_over_batch_size"`, `"mean"`, `"mean_with_sample_weight"` or `"sum"`.
        name: name of the loss.

    Call arguments:
        y_true: integer targets `[B, T]`, in [0, V) or `ignore_id`; `[B]` or any other shape works too.
        y_pred: float features `[B, T, D]`.
        sample_weight: float `[B]` or `[B, T]`, weights of the sequences or tokens.

    Returns:
        float32 scalar.

    Masking:
        A mask `[B, T]` that features carry through Keras leaves its False tokens out, besides `ignore_id`. Without any
        token that counts the loss is 0.

    Numerics:
        Products are in the dtype of the features, so they follow the policy of the model; softmax and sums are float32.
        A target of V or more that counts makes the loss NaN; NumPy targets raise.

    Saving:
        The projection is not saved with the loss: Keras would load it as a second layer with weights of its own. A
        model that was saved with this loss loads and predicts; training it raises until it is compiled with a new loss.

    Raises:
        ValueError: a projection that is not one of these, is not built or has an activation; an argument out of its
            range; `reduction="none"`; shapes that do not fit.

    Reference:
        Press & Wolf 2017 (tied weights); Hsu et al. 2024, "Liger kernel" (fused linear cross-entropy).

    Example:

    >>> import keras, numpy as np
    >>> ids = keras.Input((None,), dtype="int32")
    >>> embedding = keras.layers.Embedding(50, 8)
    >>> model = keras.Model(ids, keras.layers.Dense(8)(embedding(ids)))
    >>> model.compile("adam", TiedOutputCrossEntropy(embedding))
    >>> tokens = np.array([[3, 7, 1, 9], [4, 4, 2, 0]])
    >>> history = model.fit(tokens[:, :-1], tokens[:, 1:], verbose=0)
    """

    def __init__(
        self,
        projection,
        label_smoothing=0.0,
        ignore_id=0,
        *,
        logit_soft_cap=None,
        chunk_size=None,
        reduction="sum_over_batch_size",
        name="tied_output_cross_entropy",
    ):
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"`label_smoothing` must be in [0, 1). Received: label_smoothing={label_smoothing!r}")
        if ignore_id is not None and (isinstance(ignore_id, bool) or not isinstance(ignore_id, numbers.Integral)):
            raise ValueError(f"`ignore_id` must be an integer or None. Received: ignore_id={ignore_id!r}")
        if reduction in (None, "none"):
            raise ValueError(
                "`reduction` must give one number, of which gradients are taken with the loss. "
                f"Received: reduction={reduction!r}"
            )
        super().__init__(name=name, reduction=reduction, dtype="float32")
        self.projection = _check_projection(projection)
        self.label_smoothing = label_smoothing
        self.ignore_id = ignore_id
        self.logit_soft_cap = logit_soft_cap
        self.chunk_size = chunk_size

    def __call__(self, y_true, y_pred, sample_weight=None):
        """Returns the reduced loss of `[B, T]` targets and `[B, T, D]` features."""
        features, kernel, bias, tied, cap = _read_projection(self.projection, ops.convert_to_tensor(y_pred))
        targets, counts = self._read_targets(y_true, y_pred)
        weights = ops.cast(counts, "float32")
        divisor = ops.sum(weights)
        if sample_weight is not None:
            weights = weights * _spread_weights(sample_weight, targets)
            divisor = divisor if self.reduction in _MEANS else ops.sum(weights)
        if self.reduction != "sum":
            weights = ops.divide_no_nan(weights, divisor)
        total = linear_cross_entropy(
            features,
            kernel,
            targets,
            bias=bias,
            weights=weights,
            tied=tied,
            label_smoothing=self.label_smoothing,
            ignore_id=self.ignore_id,
            logit_soft_cap=cap if self.logit_soft_cap is None else self.logit_soft_cap,
            chunk_size=self.chunk_size,
        )
        # Keras takes the mean of one number, and scales it where several devices train.
        return super().__call__(ops.zeros((1,)), ops.reshape(total, (1,)))

    def call(self, y_true, y_pred):
        """Returns `y_pred`, which is the loss already."""
        return y_pred

    def _read_targets(self, y_true, y_pred):
        """Integer targets `[...]`, and whether their tokens count."""
        targets = y_true if hasattr(y_true, "shape") else np.asarray(y_true)
        if len(targets.shape) == len(y_pred.shape) and targets.shape[-1] == 1:
            targets = targets[..., 0]
        if "int" not in keras.backend.standardize_dtype(targets.dtype):  # Keras' trainer may hand floats over
            targets = ops.cast(targets, "int32")
        counts = ops.logical_and(ops.convert_to_tensor(targets) >= 0, _mask_of(y_pred, targets) > 0)
        return targets, counts if self.ignore_id is None else ops.logical_and(counts, targets != self.ignore_id)

    # A saved model is written by what `dir` lists: the weights belong to the model's layer, not to its loss.
    def __dir__(self):
        return [name for name in super().__dir__() if name != "projection"]

    def get_config(self):
        """Returns the constructor's arguments; the projection is left out."""
        return {
            **super().get_config(),
            "projection": None,
            "label_smoothing": self.label_smoothing,
            "ignore_id": self.ignore_id,
            "logit_soft_cap": self.logit_soft_cap,
            "chunk_size": self.chunk_size,
        }

    @classmethod
    def from_config(cls, config):
        """Returns a loss that asks for its projection when it is called."""
        return cls(**{**config, "projection": _Lost()})


class _Lost:
    """Stands for a projection that a saved model could not name."""


def _check_projection(projection):
    if isinstance(projection, keras.layers.Dense) and projection.activation is not keras.activations.linear:
        raise ValueError(
            "`projection` must have no activation: the loss needs logits. "
            f"Received: a Dense layer with activation={keras.activations.serialize(projection.activation)!r}"
        )
    kinds = (keras.layers.Dense, keras.layers.Embedding, PositionalEmbedding, ReversibleProjection, keras.Variable)
    if not isinstance(projection, (*kinds, _Lost)):
        raise ValueError(
            "`projection` must be an embedding layer, a Dense layer, a ReversibleProjection or a variable [V, D]. "
            f"Received: projection={projection!r}"
        )
    return projection


def _read_projection(projection, features):
    """Features as the output matrix takes them, that matrix, its bias, whether it is `[V, D]`, and its soft cap."""
    if isinstance(projection, keras.Variable):
        return features, projection, None, True, None
    if isinstance(projection, _Lost) or not projection.built:
        raise ValueError(
            "`projection` must be a layer of the model that is trained, which has its weights; a loaded model whose "
            "loss could not name it has to be compiled with a new loss. "
            f"Received: projection={None if isinstance(projection, _Lost) else projection}"
        )
    if isinstance(projection, PositionalEmbedding):
        inner = projection.projection
        features = features if inner is None else inner(features, reverse=True)
        return _read_projection(projection.token_embedding, features)
    if getattr(projection, "quantization_mode", None) is not None:
        raise ValueError(
            "`projection` must not be quantized: its weights have no gradient. "
            f"Received: quantization_mode={projection.quantization_mode!r}"
        )
    if isinstance(projection, ReversibleProjection):
        return features, projection.kernel, None, True, None
    if isinstance(projection, keras.layers.Dense):
        return features, projection.kernel, projection.bias, False, None
    cap = getattr(projection, "logit_soft_cap", None)
    if getattr(projection, "tie_weights", True):
        return features, projection.embeddings, None, True, cap
    return features, projection.reverse_embeddings, None, False, cap


def _spread_weights(sample_weight, targets):
    """Sample weights `[B]`, `[B, 1]` or `[B, T]` as float32 of the shape of `targets`, `[B, T]`."""
    weights, rank = ops.cast(sample_weight, "float32"), len(targets.shape)
    if len(weights.shape) == rank + 1 and weights.shape[-1] == 1:
        weights = weights[..., 0]
    if len(weights.shape) > rank:
        raise ValueError(
            "`sample_weight` must have one value for each sequence or each token. "
            f"Received: sample_weight.shape={tuple(weights.shape)} for targets of shape {tuple(targets.shape)}"
        )
    weights = ops.reshape(weights, (*ops.shape(weights), *[1] * (rank - len(weights.shape))))
    return ops.broadcast_to(weights, ops.shape(targets))


def _mask_of(features, targets):
    """The mask that Keras attached to a tensor, as 1 and 0: a loss sees it, no public function returns it."""
    reader = _MaskReader(name="mask_reader", reduction="none", dtype=keras.backend.standardize_dtype(features.dtype))
    return reader(ops.zeros(ops.shape(targets)), features)


class _MaskReader(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return ops.ones(ops.shape(y_pred)[:-1], dtype=self.dtype)
