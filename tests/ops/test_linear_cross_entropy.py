"""The chunked loss of a linear map equals float64 and the dense loss, in value and in every gradient."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

from keras_tfm.ops.linear_cross_entropy import linear_cross_entropy
from keras_tfm.training.losses import TokenCrossEntropy
from tests.numerics import TOLERANCE, assert_close, to_numpy

B, T, D, V = 3, 7, 5, 11
BACKEND = keras.backend.backend()
NAMES = ("features", "kernel", "bias", "weights")


def example(seed=0, tied=False):
    rng = np.random.default_rng(seed)
    arrays = {
        "features": rng.normal(size=(B, T, D)),
        "kernel": rng.normal(size=(V, D) if tied else (D, V)),
        "bias": rng.normal(size=V),
        "weights": rng.uniform(0.1, 2, (B, T)),
    }
    targets = rng.integers(0, V, (B, T)).astype("int32")
    return {name: array.astype("float32") for name, array in arrays.items()}, targets


def oracle(arrays, targets, *, tied=False, label_smoothing=0.0, ignore_id=None, logit_soft_cap=None):
    """The weighted sum and its gradients by name, spelled out in float64."""
    x, kernel, bias, weights = (arrays[name].astype("float64") for name in NAMES)
    kernel = kernel.T if tied else kernel
    counts = (targets >= 0) & (targets != ignore_id)
    weights, ids = np.where(counts, weights, 0.0), np.where(counts, targets, 0)
    raw = x @ kernel + bias
    logits = raw if logit_soft_cap is None else logit_soft_cap * np.tanh(raw / logit_soft_cap)
    largest = logits.max(-1, keepdims=True)
    log_probabilities = logits - largest - np.log(np.exp(logits - largest).sum(-1, keepdims=True))
    wanted = (1 - label_smoothing) * np.eye(V)[ids] + label_smoothing / V
    losses = -(wanted * log_probabilities).sum(-1) * counts
    slopes = weights[..., None] * (np.exp(log_probabilities) - wanted)
    if logit_soft_cap is not None:
        slopes *= 1 - np.tanh(raw / logit_soft_cap) ** 2
    of_kernel = np.einsum("btd,btv->dv", x, slopes)
    gradients = (slopes @ kernel.T, of_kernel.T if tied else of_kernel, slopes.sum((0, 1)), losses)
    return (weights * losses).sum(), dict(zip(NAMES, gradients, strict=True))


def loss_of(named, targets, **options):
    return linear_cross_entropy(named["features"], named["kernel"], targets, **_optional(named), **options)


def _optional(named):
    return {name: named[name] for name in ("bias", "weights") if name in named}


def value_and_gradients(function, arrays, dtype="float32", upstream=1.0, compiled=True):
    """Value and gradients, by name, of a function of a dict of tensors; weights are float32."""
    tensors = {n: ops.convert_to_tensor(a, "float32" if n == "weights" else dtype) for n, a in arrays.items()}
    if BACKEND == "jax":
        import jax

        function = jax.value_and_grad(lambda each, function=function: upstream * function(each))
        value, gradients = (jax.jit(function) if compiled else function)(tensors)
    elif BACKEND == "torch":
        tensors = {name: tensor.detach().requires_grad_(True) for name, tensor in tensors.items()}
        value = upstream * function(tensors)
        value.backward()
        gradients = {name: tensor.grad for name, tensor in tensors.items()}
    else:
        import tensorflow as tf

        def run(tensors):
            with tf.GradientTape() as tape:
                tape.watch(tensors)
                value = upstream * function(tensors)
            return value, tape.gradient(value, tensors)

        value, gradients = (tf.function(run, jit_compile=compiled == "xla") if compiled else run)(tensors)
    return to_numpy(value), {name: to_numpy(gradient) for name, gradient in gradients.items()}


OPTIONS = {
    "plain": {},
    "smoothing": {"label_smoothing": 0.1},
    "cap": {"logit_soft_cap": 2.0},
    "both, tied": {"label_smoothing": 0.3, "logit_soft_cap": 1.5, "tied": True},
    "ignored, tied": {"ignore_id": 4, "tied": True},
}
MODES = {"jax": [True, False], "tensorflow": [True, False, "xla"]}.get(BACKEND, [False])


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("compiled, chunk_size", [(mode, 4) for mode in MODES] + [(MODES[0], None)])
def test_value_and_gradients_equal_float64(name, compiled, chunk_size):
    options = OPTIONS[name]
    arrays, targets = example(1, options.get("tied", False))
    targets[0, 2:4], targets[2, 6] = (-1, -100), -7
    ids = ops.convert_to_tensor(targets)
    function = functools.partial(loss_of, targets=ids, chunk_size=chunk_size, **options)
    received = value_and_gradients(function, arrays, upstream=3.0, compiled=compiled)
    value, gradients = oracle(arrays, targets, **options)
    assert_close(received, (3 * value, {name: 3 * gradient for name, gradient in gradients.items()}))


BLOCKS = {"jax": 4, "tensorflow": 4 * D, "torch": 4}  # classes, or elements of the kernel


@pytest.mark.skipif(BACKEND not in BLOCKS, reason="it has no gradients")
@pytest.mark.parametrize("name", ["both, tied", "smoothing"])
@pytest.mark.parametrize("compiled", MODES)
def test_the_classes_may_be_cut_into_blocks(name, compiled, monkeypatch):
    monkeypatch.setattr(f"keras_tfm.backend.{BACKEND}_cross_entropy._BLOCK", BLOCKS[BACKEND])
    options = OPTIONS[name]
    arrays, targets = example(3, options.get("tied", False))
    function = functools.partial(loss_of, targets=ops.convert_to_tensor(targets), chunk_size=5, **options)
    assert_close(value_and_gradients(function, arrays, compiled=compiled), oracle(arrays, targets, **options))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_it_equals_the_dense_loss(smoothing):
    arrays, targets = example(2)
    targets[1, 3:] = 0
    ids = ops.convert_to_tensor(targets)
    dense = TokenCrossEntropy(smoothing, ignore_id=0, reduction="sum")

    def densely(named):
        logits = ops.matmul(named["features"], named["kernel"]) + named["bias"]
        return dense(ids, logits, named["weights"])

    chunked = functools.partial(loss_of, targets=ids, ignore_id=0, label_smoothing=smoothing, chunk_size=5)
    value, gradients = value_and_gradients(chunked, arrays)
    expected, of_dense = value_and_gradients(densely, arrays)
    assert_close((value, gradients), (expected, of_dense))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("tied", [True, False])
def test_half_precision_is_as_close_as_its_products(dtype, tied):
    arrays, targets = example(3, tied)
    arrays = {name: to_numpy(ops.cast(a, dtype)).astype("float32") for name, a in arrays.items()}
    scale = 1e-6  # of a mean over many tokens: float16 has no room for such slopes
    arrays["weights"] = scale * arrays["weights"]
    ids = ops.convert_to_tensor(targets)
    function = functools.partial(loss_of, targets=ids, tied=tied, chunk_size=8)
    value, gradients = value_and_gradients(function, arrays, dtype, upstream=1 / scale)
    arrays["weights"] = arrays["weights"] / scale
    expected, of_oracle = oracle(arrays, targets, tied=tied)
    of_oracle["weights"] = of_oracle["weights"] / scale
    gradients["weights"], of_oracle["weights"] = scale * gradients["weights"], scale * of_oracle["weights"]
    np.testing.assert_allclose(value, expected, rtol=TOLERANCE[dtype])
    assert_close(gradients, of_oracle, dtype)


def test_gradients_come_in_the_dtype_of_what_they_are_of():
    arrays, targets = example()
    kernel = ops.convert_to_tensor(arrays["kernel"])
    ids, x = ops.convert_to_tensor(targets), ops.cast(arrays["features"], "bfloat16")
    function = functools.partial(lambda named: linear_cross_entropy(x, named["kernel"], ids, chunk_size=4))
    value, gradients = value_and_gradients(function, {"kernel": kernel})
    assert_close(gradients, {"kernel": oracle_without_bias(arrays, targets)[1]["kernel"]}, "bfloat16")
    if BACKEND == "torch":
        kernel = kernel.requires_grad_(True)
        function({"kernel": kernel}).backward()
        assert keras.backend.standardize_dtype(kernel.grad.dtype) == "float32"


def oracle_without_bias(arrays, targets, **options):
    changed = {**arrays, "bias": 0 * arrays["bias"], "weights": 1 + 0 * arrays["weights"]}
    return oracle(changed, targets, **options)


def test_bias_and_weights_may_be_left_out():
    arrays, targets = example(4)
    given = {name: arrays[name] for name in ("features", "kernel")}
    received = value_and_gradients(functools.partial(loss_of, targets=ops.convert_to_tensor(targets)), given)
    value, gradients = oracle_without_bias(arrays, targets)
    assert_close(received, (value, {name: gradients[name] for name in given}))


@pytest.mark.parametrize("shape", [(D,), (T, D), (2, 3, 2, D)])
def test_any_number_of_axes_will_do(shape):
    rng = np.random.default_rng(5)
    x, kernel = rng.normal(size=shape).astype("float32"), example()[0]["kernel"]
    targets = np.asarray(rng.integers(0, V, shape[:-1]), "int32")
    flat = {
        "features": x.reshape(1, -1, D),
        "kernel": kernel,
        "bias": np.zeros(V),
        "weights": np.ones((1, x.size // D)),
    }
    expected = oracle(flat, targets.reshape(1, -1))[0]
    assert_close(linear_cross_entropy(x, kernel, targets, chunk_size=2), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_nothing_to_count_gives_zero_and_no_gradient(smoothing):
    arrays, targets = example(6)
    ids = ops.convert_to_tensor(0 * targets - 1)
    value, gradients = value_and_gradients(
        functools.partial(loss_of, targets=ids, label_smoothing=smoothing, chunk_size=4), arrays
    )
    assert value == 0
    assert not any(gradient.any() for gradient in gradients.values())


def test_what_tokens_hold_that_do_not_count_does_not_matter():
    arrays, targets = example(7)
    targets[:, 4:], arrays["weights"][:, 3] = -1, 0
    ids = ops.convert_to_tensor(targets)
    function = functools.partial(loss_of, targets=ids, chunk_size=4)
    expected = value_and_gradients(function, arrays)
    arrays["features"] = arrays["features"].copy()
    arrays["features"][:, 3:] = np.nan
    received = value_and_gradients(function, arrays)
    assert_close(received, expected)
    assert all(np.isfinite(gradient).all() for gradient in received[1].values())


@pytest.mark.parametrize("wrong", [V, V + 100])
def test_a_class_out_of_range_makes_the_loss_nan_or_is_refused(wrong):
    arrays, targets = example(8)
    targets[1, 1] = wrong
    ids = ops.convert_to_tensor(targets)
    value, gradients = value_and_gradients(functools.partial(loss_of, targets=ids), arrays)
    assert np.isnan(value)
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())
    assert np.isfinite(to_numpy(linear_cross_entropy(arrays["features"], arrays["kernel"], ids, ignore_id=wrong)))
    with pytest.raises(ValueError, match=f"`targets` must be below V={V}.*Received: targets with {wrong}"):
        linear_cross_entropy(arrays["features"], arrays["kernel"], targets)


def test_huge_logits_stay_finite():
    arrays, targets = example(9)
    arrays["features"] = 1e4 * arrays["features"]
    value, gradients = value_and_gradients(functools.partial(loss_of, targets=ops.convert_to_tensor(targets)), arrays)
    expected, of_oracle = oracle(arrays, targets)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert_close(gradients["features"], of_oracle["features"])


@pytest.mark.parametrize("of", NAMES)
def test_each_gradient_can_be_asked_for_alone(of):
    arrays, targets = example(10)
    ids = ops.convert_to_tensor(targets)
    fixed = {name: ops.convert_to_tensor(array) for name, array in arrays.items() if name != of}
    function = functools.partial(lambda named: loss_of({**fixed, **named}, ids, chunk_size=4))
    _, gradients = value_and_gradients(function, {of: arrays[of]})
    assert_close(gradients, {of: oracle(arrays, targets)[1][of]})


def test_no_gradient_is_computed_where_none_is_wanted(monkeypatch):
    if BACKEND == "jax":
        from keras_tfm.backend import jax_cross_entropy as module
    elif BACKEND == "torch":
        from keras_tfm.backend import torch_cross_entropy as module
    else:
        from keras_tfm.backend import tensorflow_cross_entropy as module
    calls, original = [], module._add_gradients

    def watched(gradients, *rest):
        calls.append(any(gradient is not None for gradient in gradients))
        return original(gradients, *rest)

    monkeypatch.setattr(module, "_add_gradients", watched)
    arrays, targets = example(11)
    value = loss_of(
        {name: ops.convert_to_tensor(array) for name, array in arrays.items()}, ops.convert_to_tensor(targets)
    )
    assert_close(value, oracle(arrays, targets)[0])
    assert not any(calls)


@pytest.mark.skipif(BACKEND != "torch", reason="only PyTorch keeps a graph")
def test_a_kept_graph_gives_the_same_gradient_again():
    arrays, targets = example(12)
    tensors = {name: ops.convert_to_tensor(array).requires_grad_(True) for name, array in arrays.items()}
    value = 2.0 * loss_of(tensors, ops.convert_to_tensor(targets))
    value.backward(retain_graph=True)
    first = {name: to_numpy(tensor.grad) for name, tensor in tensors.items()}
    value.backward()
    assert_close(
        {name: to_numpy(tensor.grad) for name, tensor in tensors.items()}, {n: 2 * g for n, g in first.items()}
    )


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow has graphs of unknown shapes")
@pytest.mark.parametrize("xla", [False, True])
def test_the_number_of_tokens_may_be_unknown(xla):
    import tensorflow as tf

    arrays, targets = example(13)
    kernel = tf.constant(arrays["kernel"])

    @tf.function(
        jit_compile=xla, input_signature=[tf.TensorSpec((None, None, D)), tf.TensorSpec((None, None), "int32")]
    )
    def run(x, ids):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            value = linear_cross_entropy(x, kernel, ids, chunk_size=16)
        return value, *tape.gradient(value, [x, kernel])

    for rows in (3, 1):
        cut = {**arrays, "features": arrays["features"][:rows], "weights": arrays["weights"][:rows]}
        value, gradients = oracle_without_bias(cut, targets[:rows])
        received = run(tf.constant(cut["features"]), tf.constant(targets[:rows]))
        assert_close(received, (value, gradients["features"], gradients["kernel"]))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"label_smoothing": 1.0}, r"`label_smoothing` must be in \[0, 1\). Received: label_smoothing=1.0"),
        ({"logit_soft_cap": 0}, "`logit_soft_cap` must be positive or None. Received: logit_soft_cap=0"),
        ({"chunk_size": 0}, "`chunk_size` must be a positive integer or None. Received: chunk_size=0"),
        ({"chunk_size": 2.0}, "`chunk_size` must be a positive integer or None. Received: chunk_size=2.0"),
        (
            {"tied": True},
            r"`kernel` must be .* Received: kernel.shape=\(5, 11\), features.shape=\(3, 7, 5\), tied=True",
        ),
        ({"bias": np.zeros(D)}, r"`bias` must be \[V\]. Received: bias.shape=\(5,\)"),
        ({"targets": np.zeros((B, T + 1), int)}, r"`targets` must have .* Received: targets.shape=\(3, 8\)"),
        ({"targets": np.zeros((B, T))}, "`targets` must be integers. Received: targets.dtype=float64"),
        ({"weights": np.ones(B)}, r"`weights` must have .* Received: weights.shape=\(3,\)"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    arrays, targets = example()
    given = {"features": arrays["features"], "kernel": arrays["kernel"], "targets": targets, **changes}
    with pytest.raises(ValueError, match=message):
        linear_cross_entropy(**given)
