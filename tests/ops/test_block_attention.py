"""The block kernel: the reference's numbers for every kind of request, from blocks that are never all held."""

import contextlib
import functools

import keras
import numpy as np
import pytest
from keras import ops as keras_ops

from keras_tfm import backend, layers, ops
from keras_tfm.ops import block_attention
from keras_tfm.ops.attention_request import AttentionRequest, ScoreDropout
from keras_tfm.ops.query_panels import query_panels
from tests import oracles
from tests.numerics import assert_close, layer_gradients, randomize, to_numpy, value_and_gradients

B, T, S, N, K, H, HV = 2, 7, 11, 6, 3, 4, 5
BLOCK = 3  # queries; it divides no length here
POSITIONS = np.random.default_rng(1).permutation(40)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(block_attention, "_block_size", lambda block_bytes, row_bytes: BLOCK)
    monkeypatch.setattr(block_attention, "BLOCK_BYTES", 1)


def heads(seed=0, queries=T, keys=S):
    rng = np.random.default_rng(seed)
    shapes = [(B, queries, N, H), (B, keys, K, H), (B, keys, K, HV), (B, queries, N, HV)]
    return rng, [rng.normal(size=shape).astype("float32") for shape in shapes]


def _real(length):
    return np.arange(length) < [[length], [length - 4]]


def _segments(length):
    return np.repeat(np.arange(length)[None] // 3, B, axis=0).astype("int32")


MASKS = {
    "none": {},
    "causal": dict(causal=True, offset=4),
    "window": dict(causal=True, offset=4, window=3),
    "both sides": dict(window=4),
    "prefix": dict(causal=True, prefix=np.array([2, 7])),
    "padding": dict(key_padding=_real(S), query_padding=_real(T)),
    "segments": dict(causal=True, segments=(_segments(T), _segments(S))),
    "heads": dict(explicit=np.random.default_rng(2).random((B, N, T, S)) < 0.5),
    "positions": dict(
        causal=True,
        query_positions=np.tile(POSITIONS[:T], (B, 1)).astype("int32"),
        key_positions=np.tile(POSITIONS[-S:], (B, 1)).astype("int32"),
    ),
}
NAMES = {"causal": "is_causal", "prefix": "prefix_length", "offset": "query_offset"}


def attention_mask(parts):
    return ops.AttentionMask(**{NAMES.get(name, name): _tensors(part) for name, part in parts.items()})


def _tensors(part):
    if isinstance(part, tuple):
        return tuple(map(_tensors, part))
    return keras_ops.convert_to_tensor(part) if isinstance(part, np.ndarray) else part


def compiled(function):
    """One program: JAX would compile each loop by itself, TensorFlow goes head by head in graphs alone."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, autograph=False)
    return function


def in_blocks(*arguments, **options):
    with ops.use_kernel("block"):
        return ops.attention(*arguments, **options)[0]


@pytest.mark.parametrize("name", MASKS)
def test_it_equals_float64_under_every_mask(name):
    _, (*inputs, upstream) = heads()
    bias = np.random.default_rng(3).normal(size=(N, T, S)).astype("float32")
    mask, soft_cap = attention_mask(MASKS[name]), 2.0

    def attend(query, key, value, bias):
        return in_blocks(query, key, value, mask, bias=bias, logit_soft_cap=soft_cap)

    output, gradients = value_and_gradients(compiled(attend), [*inputs, bias], upstream)
    options = dict(allowed=oracles.allowed_pairs(B, N, T, S, **MASKS[name]), bias=bias, soft_cap=soft_cap)
    assert_close(output, oracles.attention(*inputs, **options)[0])
    assert_close(gradients[:3], oracles.attention_gradients(*inputs, upstream, **options))
    assert_close(gradients[3], _bias_gradient(inputs, upstream, options))


def _bias_gradient(inputs, upstream, options):
    """Scores times what they are worth above the mean of their row."""
    scores = oracles.attention(*inputs, **options)[1]
    worth = np.einsum("btnh,bsnh->bnts", upstream, np.repeat(inputs[2], N // K, axis=2).astype("float64"))
    return (scores * (worth - (scores * worth).sum(-1, keepdims=True))).sum(0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_sinks_and_held_tensors_have_gradients(dtype):
    """A bias that is a function holds a tensor, as the weights of a layer are: it has its gradient, too."""
    rng, (*inputs, upstream) = heads()
    slopes, sink = rng.normal(size=(2, N)).astype("float32")
    mask = ops.AttentionMask(is_causal=True, query_offset=4)

    def attend(query, key, value, slopes, sink, run=in_blocks):
        def bias(query, key, query_positions, key_positions):
            distance = keras_ops.cast(query_positions[:, None] - key_positions, "float32")
            return keras_ops.cast(slopes, "float32")[:, None, None] * distance

        return run(query, key, value, mask, bias=bias, sink=sink)

    def whole(*arguments):
        with ops.use_kernel("reference"):
            return attend(*arguments, run=lambda *args, **options: ops.attention(*args, **options)[0])

    arrays = [*inputs, slopes, sink]
    assert_close(
        value_and_gradients(compiled(attend), arrays, upstream, dtype),
        value_and_gradients(compiled(whole), arrays, upstream, dtype),
        dtype,
    )


class SameSeed:
    """A generator that draws the same at every call."""

    def next(self):
        return keras_ops.convert_to_tensor([3, 5], dtype="uint32")

    def get_config(self):
        return {"seed": 3}


@pytest.mark.parametrize("num_shared, name", [(K, "causal"), (N, "padding")])
def test_dropout_is_that_of_the_reference(num_shared, name, monkeypatch):
    """One mask for the output and for its gradient, drawn block by block: of heads alone, and of those that share."""
    for of_torch in ("keep_mask", "dropout"):  # which draws faster for all scores than by their places
        monkeypatch.setattr(backend, of_torch, None)
    _, (query, *keys, upstream) = heads()
    inputs = [query, *(np.repeat(x, num_shared // K, axis=2) for x in keys)]
    mask, sink = attention_mask(MASKS[name]), np.float32([0.5] * N)

    def attend(query, key, value, kernel):
        dropout = ScoreDropout.of(0.4, SameSeed(), seed=3)
        with ops.use_kernel(kernel):
            return ops.attention(query, key, value, mask, dropout=dropout, sink=sink)[0]

    results = [
        value_and_gradients(compiled(functools.partial(attend, kernel=kernel)), inputs, upstream)
        for kernel in ("block", "reference")
    ]
    assert_close(*results)


LAYERS = {
    "t5": dict(position="t5"),
    "disentangled": dict(position=layers.DisentangledPosition(max_distance=8, num_buckets=8)),
    "mixed heads": dict(head_mixing="talking_heads"),
    "additive": dict(score="additive"),
    "sink": dict(attention_sink="learned", query_key_norm="rms"),
}


@pytest.mark.parametrize("name, dtype", [*((name, "float32") for name in LAYERS), ("t5", "mixed_bfloat16")])
def test_all_weights_of_a_layer_have_their_gradients(name, dtype):
    """Also those in functions, whose values and dtypes are set while the layer is called, not when gradients are."""
    rng = np.random.default_rng(0)
    part = {
        key: type(value).from_config(value.get_config()) if isinstance(value, keras.Layer) else value
        for key, value in LAYERS[name].items()
    }
    layer = layers.MultiHeadAttention(4, 6, num_key_value_heads=2, dtype=dtype, **part)
    x, upstream = rng.normal(size=(2, 2, 7, 24)).astype("float32")
    layer.build(x.shape, x.shape)
    randomize(layer, scale=0.3)
    results = []
    for kernel in ("block", "reference"):
        with ops.use_kernel(kernel):
            results.append(layer_gradients(layer, compiled(lambda x: layer(x, x, use_causal_mask=True)), [x], upstream))
    assert_close(*results, layer.compute_dtype, factor=2)


@contextlib.contextmanager
def counted_scores():
    """Collects how many scores each block has that is traced, once for each panel."""
    counted, attend = [], block_attention.attend

    def counting(request, *functions):
        counted.append(request.query.shape[1] * request.key.shape[1])
        return attend(request, *functions)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block_attention, "attend", counting)
        yield counted


def test_a_causal_mask_saves_half_of_the_scores():
    length = 48
    panels = query_panels(ops.AttentionMask(is_causal=True), length, length, BLOCK)
    pairs = sum((stop - start) * (last - first) for start, stop, first, last in panels)
    assert length**2 / 2 < pairs < 0.6 * length**2
    assert all(last == stop for _, stop, _, last in panels)
    _, (*inputs, _) = heads(queries=length, keys=length)
    with counted_scores() as counted:
        in_blocks(*map(keras_ops.convert_to_tensor, inputs), ops.AttentionMask(is_causal=True))
    assert set(counted) == {BLOCK * last for _, _, _, last in panels}


def test_a_window_and_a_conjunction_save_what_is_far():
    near = query_panels(ops.AttentionMask(window=4), 48, 48, BLOCK)
    assert all((first, last) == (max(0, start - 3), min(48, stop + 3)) for start, stop, first, last in near)
    both = ops.AttentionMask(window=4) & ops.AttentionMask(is_causal=True)
    assert all(
        last == stop and first == max(0, start - 3) for start, stop, first, last in query_panels(both, 48, 48, 3)
    )


def test_no_block_holds_more_than_its_share():
    _, (*inputs, _) = heads()
    with counted_scores() as counted:
        in_blocks(*map(keras_ops.convert_to_tensor, inputs))
    assert counted and max(counted) == BLOCK * S


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="of tf.function")
@pytest.mark.parametrize("jit_compile", [False, True])
def test_graphs_with_an_unknown_batch(jit_compile):
    import tensorflow as tf

    _, (*inputs, upstream) = heads()
    mask = ops.AttentionMask(is_causal=True, query_offset=4)

    @tf.function(jit_compile=jit_compile, input_signature=[tf.TensorSpec((None, *x.shape[1:])) for x in inputs])
    def step(*heads):
        with tf.GradientTape() as tape:
            tape.watch(heads)
            output = in_blocks(*heads, mask)
        return output, tape.gradient(output, heads, upstream)

    output, gradients = step(*inputs)
    allowed = oracles.allowed_pairs(B, N, T, S, causal=True, offset=4)
    assert_close(output, oracles.attention(*inputs, allowed)[0])
    assert_close(gradients, oracles.attention_gradients(*inputs, upstream, allowed))


def test_sequences_that_fit_are_taken_together(monkeypatch):
    monkeypatch.setattr(block_attention, "BLOCK_BYTES", 4 * N * T * S)
    _, (*inputs, upstream) = heads()
    output, gradients = value_and_gradients(compiled(in_blocks), inputs, upstream)
    assert_close(output, oracles.attention(*inputs)[0])
    assert_close(gradients, oracles.attention_gradients(*inputs, upstream))


def test_it_is_chosen_beyond_its_budget(monkeypatch):
    arguments = [np.zeros((1, 64, 2, 8), "float32")] * 3
    options = dict(logit_soft_cap=2.0)
    assert "the scores take 0.0312 MiB of a budget of" in dict(ops.explain_attention(*arguments, **options))["block"]
    monkeypatch.setattr(block_attention, "BUDGET", 4 * 2 * 64 * 64 - 1)
    chosen = next(name for name, reason in ops.explain_attention(*arguments, **options) if reason is None)
    assert chosen == "block"


@pytest.mark.parametrize(
    "options, reason",
    [
        (dict(return_scores=True), "scores were asked for"),
        (dict(dropout=lambda scores: scores), "dropout is a function that drops"),
    ],
)
def test_it_says_why_not(options, reason):
    _, (*inputs, _) = heads()
    with pytest.raises(ValueError, match=f"'block' cannot serve this request: {reason}"):
        in_blocks(*inputs, **options)


def test_a_symbolic_length_is_refused():
    x = keras.KerasTensor((None, None, 2, 4))
    request = AttentionRequest(x, x, x, ops.AttentionMask())
    assert "lengths are not known" in block_attention.BLOCK.why_not(request)


def test_windows_fold_into_blocks(monkeypatch):
    """The sliding-window kernel makes many short sequences, which go on to this kernel."""
    monkeypatch.setattr(block_attention, "BUDGET", 0)
    _, (*inputs, _) = heads(queries=197, keys=197)
    used = []
    with ops.observe_attention(lambda request, kernel: used.append(kernel.name)):
        output, _ = ops.attention(
            *map(keras_ops.convert_to_tensor, inputs), ops.AttentionMask(window=7, is_causal=True), logit_soft_cap=2.0
        )
    assert used == ["sliding_window", "block", "block"]  # the first block, and the others
    allowed = oracles.allowed_pairs(B, N, 197, 197, causal=True, window=7)
    assert_close(to_numpy(output), oracles.attention(*inputs, allowed, soft_cap=2.0)[0])
