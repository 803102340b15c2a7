"""How long each layer of a model takes in an eager call, what of it in layers of its own not counted."""

import contextlib
import dataclasses
import functools
import math
import re
import time
from typing import Any

import keras

from keras_tfm import backend
from keras_tfm.inspection.layer_flops import attention_flops, layer_flops
from keras_tfm.ops.attention import observe_attention


@dataclasses.dataclass
class LayerUse:
    """What the calls of one layer, or of its attention core, came to.

    Args:
        layer: the layer.
        name: its path in the model.
        kind: its class, or `"attention"`.
        num_calls: int.
        seconds: float, without the time of layers within; `None` if it was traced, not computed.
        flops: int, or `None` if there is no rule.
        output_bytes: int, of the outputs that no layer within has made.
        attentions: list of the numbers of the attentions, in the order of all attentions of the model.
    """

    layer: Any
    name: str
    kind: str
    num_calls: int = 0
    seconds: float | None = 0.0
    flops: int | None = 0
    output_bytes: int = 0
    attentions: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class _Frame:
    use: LayerUse
    parts: int = 0
    made: list = dataclasses.field(default_factory=list)  # what layers within have returned
    core: LayerUse | None = None


class LayerClock:
    """Watches the layers of a model while the `with` block `watching` runs; `uses` are in the order of first calls."""

    def __init__(self):
        self.uses = {}
        self._frames, self._running, self._since = [], None, 0.0
        self._num_attentions = 0

    @contextlib.contextmanager
    def watching(self, layers):
        """Wraps what Keras runs in a call of each of the layers, and takes the wrappers off again, whatever happens."""
        with contextlib.ExitStack() as stack:
            for layer in layers:
                stack.enter_context(self._wrapped(layer))
            stack.enter_context(observe_attention(self._note_attention))
            yield self

    @contextlib.contextmanager
    def _wrapped(self, layer):
        name = "quantized_call" if getattr(layer, "quantization_mode", None) else "call"
        before, method = vars(layer).get(name), getattr(layer, name)

        @functools.wraps(method)
        def call(*args, **kwargs):
            inputs = _tensors((args, kwargs))
            self._enter(layer, inputs)
            outputs = method(*args, **kwargs)
            self._leave(inputs, _tensors(outputs))
            return outputs

        # Not by `setattr`, with which Keras tracks what a layer has.
        object.__setattr__(layer, name, call)
        try:
            yield
        finally:
            if before is None:
                object.__delattr__(layer, name)
            else:
                object.__setattr__(layer, name, before)

    def _use(self, key, *arguments):
        use = self.uses.setdefault(key, LayerUse(*arguments))
        use.num_calls += 1
        if backend.is_traced():
            use.seconds = None
        return use

    def _name(self, layer):
        """The layer's path; one without weights may have none, and goes by who calls it."""
        is_nested = len(self._frames) > 1  # the outermost is the model
        return layer.path or (f"{self._frames[-1].use.name}/{layer.name}" if is_nested else layer.name)

    def _enter(self, layer, inputs):
        self._stop(inputs)
        use = self._use(id(layer), layer, self._name(layer), type(layer).__name__)
        if self._frames:
            self._frames[-1].parts += 1
        self._frames.append(_Frame(use))
        self._start(use)

    def _leave(self, inputs, outputs):
        self._stop(outputs)
        frame = self._frames.pop()
        known = {id(tensor) for tensor in [*inputs, *frame.made]}
        frame.use.output_bytes += sum(tensor_bytes(tensor) for tensor in outputs if id(tensor) not in known)
        _add_flops(frame.use, None if frame.parts else layer_flops(frame.use.layer, inputs, outputs))
        if self._frames:
            self._frames[-1].made += outputs
            self._start(self._frames[-1].use)

    def _note_attention(self, request, kernel):
        """The core's time runs until its layer calls another layer or returns."""
        heads = [request.query, request.key, request.value]
        self._stop(heads)
        flops = attention_flops(request)
        if request.is_part:  # of the same attention, cut into windows
            use = self._frames[-1].core
        else:
            owner = self._frames[-1]
            owner.parts += 1
            use = owner.core = self._use((id(owner.use.layer), "core"), owner.use.layer, owner.use.name, "attention")
            shape = (*request.query.shape[:3], request.value.shape[-1])
            use.output_bytes += math.prod(shape) * dtype_bytes(request.value.dtype)
        if kernel.name != "sliding_window":
            _add_flops(use, flops)
        use.attentions.append(self._num_attentions)
        self._num_attentions += 1
        self._start(use)

    def _stop(self, tensors):
        """Charges the time since the last start to what was running, once the tensors are computed."""
        if backend.is_traced():
            return
        _wait(tensors)
        if self._running is not None and self._running.seconds is not None:
            self._running.seconds += time.perf_counter() - self._since
        self._running = None

    def _start(self, use):
        if not backend.is_traced():
            self._running, self._since = use, time.perf_counter()


def _add_flops(use, flops):
    use.flops = None if flops is None or use.flops is None else use.flops + flops


def tensor_bytes(tensor):
    """The bytes of a tensor or variable."""
    return math.prod(tensor.shape) * dtype_bytes(tensor.dtype)


def dtype_bytes(dtype):
    """The bytes of one number; those of less than a byte count as one."""
    digits = re.search(r"\d+", keras.backend.standardize_dtype(dtype))
    return max(int(digits[0]) // 8, 1) if digits else 1


def _tensors(tree):
    return [leaf for leaf in keras.tree.flatten(tree) if keras.ops.is_tensor(leaf)]


def _wait(tensors):
    """Waits until a device has computed the tensors; on the host only JAX computes later than it is told."""
    for tensor in tensors:
        if hasattr(tensor, "block_until_ready"):
            tensor.block_until_ready()
        elif "cpu" not in str(getattr(tensor, "device", "cpu")).lower() and math.prod(tensor.shape):
            keras.ops.convert_to_numpy(tensor[(0,) * len(tensor.shape)])
