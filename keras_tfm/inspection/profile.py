"""What each layer of a model costs: parameters, operations, bytes, time, and how near to the machine's limit."""

import functools
import math
import statistics
import time
from typing import NamedTuple

import keras

from keras_tfm.inspection.attention_report import attention_report
from keras_tfm.inspection.layer_clock import LayerClock, tensor_bytes
from keras_tfm.ops.linear import linear


class ProfileRow(NamedTuple):
    """One layer, or the attention core of one; `None` where a number is not known.

    Args:
        layer: path of the layer in the model.
        kind: its class, or `"attention"`.
        num_calls: int, calls in one forward pass.
        parameters: int, of its own: those of layers within are counted there, shared ones once.
        flops: int, operations of the forward pass.
        bytes: int, of its own weights, and of its outputs unless a layer within made them.
        seconds: float, the median, without what layers within take.
        roofline_share: float, `flops / seconds` as a share of `ProfileReport.peak`.
        kernel: name of the kernel that an attention ran on.
        refused: tuple of `(kernel, reason)`, why not one of those before it.
    """

    layer: str
    kind: str
    num_calls: int
    parameters: int
    flops: int | None
    bytes: int
    seconds: float | None
    roofline_share: float | None
    kernel: str | None = None
    refused: tuple = ()


class ProfileReport(NamedTuple):
    """The rows of the layers in the order of their first calls, and those of the whole pass.

    Args:
        rows: tuple of `ProfileRow`.
        eager: `ProfileRow`, the sums of the rows.
        compiled: `ProfileRow` of `predict_on_batch`, as a whole.
        peak: float, operations a second that the machine reaches in a product of matrices.
    """

    rows: tuple
    eager: ProfileRow
    compiled: ProfileRow
    peak: float

    def __str__(self):
        rows = [*self.rows, self.eager, self.compiled]
        name, kind = (max(len(row[i]) for row in rows) for i in range(2))
        lines = [
            f"{'layer':{name}}  {'class':{kind}}  {'params':>7} {'FLOPs':>7} {'bytes':>7} {'ms':>8} {'roof':>6}  kernel"
        ]
        lines += [_line(row, name, kind) for row in rows]
        lines.append(f"roof: share of {_short(self.peak)}FLOP/s, measured on a product of matrices")
        return "\n".join([*lines, *_reasons(self.rows)])


def profile(model, batch, *, repetitions=5, print_fn=print):
    """Prints what each layer of a model costs in a forward pass at inference, and what the compiled pass takes.

    The model is called eagerly with the real batch, and each layer is timed where it is called: layers without layers
    of their own as a whole, attention cores (`"attention"`: scores, softmax, weighted values) apart from the
    projections beside them, and other layers for what they do themselves, as residual sums. So the times add up.

    Times of single layers include what an eager call costs: Keras' and the backend's Python, one launch for each
    operation. A compiled program has none of that, and fuses operations besides. Where the last row takes far less than
    the sum above it, trust the shares of big layers alone. The overhead of a call is charged to the layer that makes
    it.

    Args:
        model: a `keras.Model`, built or not.
        batch: what `predict_on_batch` takes: an array, or a list or dict of arrays.
        repetitions: int, timed passes, of which the median counts. Defaults to 5.
        print_fn: what prints the report; `None` to print nothing.

    Returns:
        A `ProfileReport`. Its last row, `compiled`, includes the copy of the outputs to the host.

    Numerics:
        Operations follow from shapes, a product and its sum being 2: exact for dense layers and attention (all pairs of
        tokens, masked ones too, so that a causal kernel can pass the peak), a rule of thumb for norms; a dash for
        classes without a rule and for what happens outside of layers. The peak is measured once for each dtype, by a
        product that the machine may well exceed by some per cent while others use it less. What a layer runs in
        compiled code even in an eager call, as with rematerialization on JAX, has no time of its own.

    Raises:
        ValueError: the model is no `keras.Model`, or `repetitions` is not a positive integer.

    Reference:
        Williams et al. 2009, "Roofline: An Insightful Visual Performance Model" (its flat part alone).

    Example:

    >>> import keras, keras_tfm
    >>> inputs = keras.Input((None, 8))
    >>> model = keras.Model(inputs, keras_tfm.layers.TransformerEncoder(16, 2, name="block")(inputs))
    >>> report = profile(model, keras.ops.ones((2, 5, 8)), repetitions=1, print_fn=None)
    >>> report.compiled.parameters == model.count_params()
    True
    """
    if not isinstance(model, keras.Model):
        raise ValueError(f"`model` must be a `keras.Model`. Received: model={model!r}")
    if isinstance(repetitions, bool) or not isinstance(repetitions, int) or repetitions < 1:
        raise ValueError(f"`repetitions` must be a positive integer. Received: repetitions={repetitions!r}")
    attentions = attention_report(model, batch, print_fn=None).rows  # builds the model, and warms it up
    layers = _layers(model)
    clocks = [_timed_pass(model, layers, batch) for _ in range(repetitions)]
    peak = matmul_peak(keras.backend.standardize_dtype(model.compute_dtype))
    rows = _rows(layers, clocks, attentions, peak)
    eager = _total(rows, "sum of the layers, eager", _sum(row.seconds for row in rows), peak)
    seconds = _median_seconds(lambda: model.predict_on_batch(batch), repetitions)
    report = ProfileReport(tuple(rows), eager, _total(rows, "whole pass, predict_on_batch", seconds, peak), peak)
    if print_fn is not None:
        print_fn(str(report))
    return report


@functools.cache
def matmul_peak(dtype="float32"):
    """The operations a second of a product of square matrices, measured at the first call for each dtype.

    Args:
        dtype: name of the dtype of the matrices. Defaults to `"float32"`.

    Returns:
        A float: the best of a few products, of matrices that grow until one takes 5 ms, or to 8,192.
    """
    size, seconds, peak = 256, 0.0, 0.0
    while seconds < 0.005 and size < 8192:
        size *= 2
        x = keras.ops.ones((size, size), dtype)
        seconds = min(_seconds(lambda x=x: keras.ops.convert_to_numpy(linear(x, x)[0, 0])) for _ in range(6))
        peak = max(peak, 2 * size**3 / seconds)
    return peak


def _layers(model):
    """The model and all its layers, each once."""
    return list({id(layer): layer for layer in [model, *model._flatten_layers(include_self=False)]}.values())


def _timed_pass(model, layers, batch):
    clock = LayerClock()
    with clock.watching(layers):
        model(batch, training=False)
    return clock


def _rows(layers, clocks, attentions, peak):
    weights = _own_weights(layers)
    rows = []
    for key, use in clocks[0].uses.items():
        seconds = None
        if use.seconds is not None:
            seconds = statistics.median(clock.uses[key].seconds for clock in clocks)
        kernels = [attentions[i] for i in use.attentions]
        own = [] if kernels else weights.pop(id(use.layer), [])
        row = _row(use.name, use.kind, use.num_calls, own, use.flops, use.output_bytes, seconds, peak)
        if kernels:
            names = " > ".join(dict.fromkeys(each.kernel for each in kernels))
            row = row._replace(kernel=names, refused=kernels[0].refused)
        rows.append(row)
    idle = [layer for layer in layers if weights.get(id(layer))]
    return rows + [
        _row(layer.path or layer.name, type(layer).__name__, 0, weights[id(layer)], None, 0, None, peak)
        for layer in idle
    ]


def _own_weights(layers):
    """By `id` of the layer: the weights that are in no layer within it, nor in a layer before."""
    seen, own = set(), {}
    for layer in layers:
        within = {id(weight) for each in _parts(layer) for weight in each.weights}
        own[id(layer)] = [weight for weight in layer.weights if id(weight) not in within | seen]
        seen |= {id(weight) for weight in own[id(layer)]}
    return own


def _parts(layer):
    return layer._flatten_layers(include_self=False)


def _row(name, kind, num_calls, weights, flops, output_bytes, seconds, peak):
    parameters = sum(math.prod(weight.shape) for weight in weights)
    total_bytes = sum(map(tensor_bytes, weights)) + output_bytes
    return ProfileRow(name, kind, num_calls, parameters, flops, total_bytes, seconds, _share(flops, seconds, peak))


def _total(rows, name, seconds, peak):
    flops = _sum(row.flops for row in rows)
    parameters, all_bytes = sum(row.parameters for row in rows), sum(row.bytes for row in rows)
    return ProfileRow(name, "", 1, parameters, flops, all_bytes, seconds, _share(flops, seconds, peak))


def _sum(numbers):
    return sum(number for number in numbers if number is not None)


def _share(flops, seconds, peak):
    return flops / seconds / peak if flops and seconds else None


def _seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _median_seconds(function, repetitions):
    function()
    return statistics.median(_seconds(function) for _ in range(repetitions))


def _line(row, name, kind):
    numbers = f"{_short(row.parameters):>7} {_short(row.flops):>7} {_short(row.bytes):>7}"
    milliseconds = "-" if row.seconds is None else f"{1e3 * row.seconds:.3f}"
    share = "-" if row.roofline_share is None else f"{100 * row.roofline_share:.1f} %"
    return f"{row.layer:{name}}  {row.kind:{kind}}  {numbers} {milliseconds:>8} {share:>6}  {row.kernel or ''}".rstrip()


def _short(number):
    if number is None:
        return "-"
    for unit in ("", "k", "M", "G", "T"):
        if number < 999.5 or unit == "T":
            return f"{number:.3g}{unit}" if number < 1000 else f"{number:.0f}{unit}"
        number /= 1000


def _reasons(rows):
    """Why no kernel before the one that ran: once for all attentions of which the same is to be said."""
    groups = {}
    for row in rows:
        if row.kernel is not None:
            groups.setdefault((row.kernel, row.refused), []).append(row.layer)
    lines = []
    for (kernel, refused), names in groups.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        lines.append(f"{kernel} ({names[0]}{more}){':' if refused else ': the first choice'}")
        lines += [f"  not {name}: {reason}" for name, reason in refused]
    return lines
