"""The attention scores of every layer and head of a model, from one call, without editing the model."""

import contextlib
import dataclasses
import functools
import warnings
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_tfm import backend
from keras_tfm.layers.linear_attention import LinearAttention
from keras_tfm.layers.real_tokens import rows_kept
from keras_tfm.ops.attention import observe_attention, serve_request, use_kernel

_ATTENTIONS = (
    keras.layers.MultiHeadAttention,
    keras.layers.GroupQueryAttention,
    keras.layers.Attention,  # also the additive one
    LinearAttention,
)


class AttentionRecord(NamedTuple):
    """One attention of one call.

    Attributes:
        layer: path of the layer; a layer that is called twice has two records of that name.
        kind: `"encoder"` for self-attention in both directions, `"decoder"` for causal self-attention, `"cross"`.
        scores: float32 numpy `[B, N, T, S]`. A row sums to 1, to 0 if there is nothing to attend to, and to less than 1
            beside an attention sink.
        query: float32 numpy `[B, T, N, H]` as it was compared, positions turned in, or `None`.
        key: float32 numpy `[B, S, K, H]`, or `None`.
    """

    layer: str
    kind: str
    scores: np.ndarray
    query: np.ndarray | None = None
    key: np.ndarray | None = None


def collect_attention(model, inputs, *, with_vectors=False):
    """Calls a model at inference and returns the scores of all its attentions, in the order of computation.

    The call is the model's own, with its kernels; the scores are computed beside it from what each attention was asked,
    also where the kernel that ran gives none. Attentions that this package does not compute, and linear attention,
    which has no scores, are left out with a warning that names them.

    Args:
        model: a model or a layer, or any function that calls some.
        inputs: what it is called with. For a layer or a function that is no `keras.Model`, a tuple is several
            arguments.
        with_vectors: whether queries and keys are kept as well. Defaults to `False`.

    Returns:
        A tuple of `AttentionRecord`. Layers with `attention_axes` have their other axes folded into B.

    Masking:
        What a mask forbids has score 0, whichever form the mask has.

    Warns:
        UserWarning: once, naming the attentions without scores.

    Raises:
        ValueError: An attention was traced, not computed, as in a compiled function.

    Example:

    >>> import numpy as np
    >>> from keras_tfm.models import SequenceTagger
    >>> model = SequenceTagger(5, 2, 16, 32, 4, vocabulary_size=30)
    >>> records = collect_attention(model, np.array([[4, 5, 6, 0]]))
    >>> [(record.kind, record.scores.shape) for record in records]
    [('encoder', (1, 4, 4, 4)), ('encoder', (1, 4, 4, 4))]
    """
    if isinstance(model, keras.Layer) and not model.built:
        _call(model, inputs)  # only a built model has its layers
    watch = _Watch(with_vectors)
    with watch.watching(model):
        _call(model, inputs)
    return tuple(watch.records)


def _call(model, inputs):
    arguments = inputs if isinstance(inputs, tuple) and not isinstance(model, keras.Model) else (inputs,)
    options = {"training": False} if isinstance(model, keras.Layer) else {}
    return model(*arguments, **options)


class _Watch:
    """Sees each attention of a call, and of each layer whether query and value are one sequence."""

    def __init__(self, with_vectors):
        self.records = []
        self._with_vectors = with_vectors
        self._is_self = {}  # by path of the layer, as it was called last
        self._has_scores = {}
        self._is_within = False

    @contextlib.contextmanager
    def watching(self, model):
        layers = model._flatten_layers() if isinstance(model, keras.Layer) else []
        with contextlib.ExitStack() as stack:
            for layer in {id(layer): layer for layer in layers if isinstance(layer, _ATTENTIONS)}.values():
                stack.enter_context(self._wrapped(layer))
            stack.enter_context(rows_kept())
            stack.enter_context(observe_attention(self._observe))
            yield
        unseen = [path for path, is_seen in self._has_scores.items() if not is_seen]
        if unseen:
            warnings.warn(
                f"These attentions have no scores to collect, and are left out: {', '.join(unseen)}.",
                UserWarning,
                stacklevel=4,
            )

    @contextlib.contextmanager
    def _wrapped(self, layer):
        method = layer.call

        @functools.wraps(method)
        def call(*args, **kwargs):
            self._is_self[layer.path] = _is_self_attention(*args, **kwargs)
            self._has_scores.setdefault(layer.path, False)
            return method(*args, **kwargs)

        # Not by `setattr`, with which Keras tracks what a layer has.
        object.__setattr__(layer, "call", call)
        try:
            yield
        finally:
            object.__delattr__(layer, "call")

    def _observe(self, request, kernel):
        if self._is_within or request.is_part:  # the same attention again: its scores', or cut into windows
            return
        label = request.label or "ops.attention"
        if backend.is_traced() or not _is_known(request.query):
            raise ValueError(
                "Attention must be computed at once to be seen, not inside compiled code or code that a "
                f"`rematerialization` traces. Received: the attention {label}"
            )
        self._is_within = True
        scores = _numpy(_scores(request))
        self._is_within = False
        self._has_scores[label] = True
        vectors = (_numpy(request.query), _numpy(request.key)) if self._with_vectors else ()
        self.records.append(AttentionRecord(label, self._kind(request), scores, *vectors))

    def _kind(self, request):
        is_self = self._is_self.get(request.label)
        if is_self is None:  # not called as a layer
            name = (request.label or "").rsplit("/", 1)[-1]
            is_self = request.query.shape[1] == request.key.shape[1] and "cross" not in name and "flat" not in name
        if not is_self:
            return "cross"
        return "decoder" if _is_causal(request) else "encoder"


def _is_self_attention(*args, **kwargs):
    """Whether query and value, the first arguments of a call or the first of a list, are one sequence."""
    sequences = [*args, *(kwargs[name] for name in ("inputs", "query", "value") if name in kwargs)]
    if isinstance(sequences[0], (list, tuple)):
        sequences = sequences[0]
    query, value = sequences[:2]
    if query is value or value is None:
        return True
    if tuple(query.shape) != tuple(value.shape) or not _is_known(query):
        return False
    return np.array_equal(_numpy(query), _numpy(value), equal_nan=True)  # cast, one sequence is two tensors


def _is_causal(request):
    """Whether the mask, its padding apart, hides what comes after a query."""
    if request.mask.is_causal:
        return True
    of_pairs = dataclasses.replace(request.mask, key_padding=None, query_padding=None, segments=None)
    mask = of_pairs.materialize(request.query_length, request.key_length)
    if mask is None or request.query.shape[1] == 1:
        return False
    return not np.triu(ops.convert_to_numpy(mask), 1).any()


def _scores(request):
    with use_kernel("reference"):
        return serve_request(dataclasses.replace(request, return_scores=True, dropout=None, value_bias=None))[1]


def _is_known(tensor):
    """Whether a tensor has values now; JAX traces what it rematerializes even in an eager call."""
    try:
        ops.convert_to_numpy(tensor[:0])
    except Exception as error:
        if "Tracer" in type(error).__name__:
            return False
        raise
    return True


def _numpy(tensor):
    return np.asarray(ops.convert_to_numpy(ops.cast(tensor, "float32")))
