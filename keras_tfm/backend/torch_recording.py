"""Recorded loops: the body of a loop as a flat list of PyTorch operators, without the Python that led to them.

A step of decoding is little arithmetic and much Python: layers, checks, trees. The body is run once under PyTorch's
tracer, and its operators are then called one after the other.
"""

import contextlib
import contextvars
import warnings

import torch
from torch.fx.experimental.proxy_tensor import make_fx

from keras_tfm.backend.torch_outputs import may_be_view, separate_outputs
from keras_tfm.backend.torch_packing import pack_products

_IS_RECORDING = contextvars.ContextVar("keras_tfm_is_recording", default=False)


def is_eager():
    """Whether operations run at once: nothing compiles, records or transforms them."""
    is_transformed = torch._C._functorch.maybe_current_level() is not None
    return not (is_transformed or is_recording() or torch.compiler.is_compiling())


def is_recording():
    """Whether tensors stand for those of later calls, so that none may be read."""
    return _IS_RECORDING.get()


class Recording:
    """A function of tensors, recorded.

    Args:
        function: takes tensors, returns a list of tensors, and does nothing but tensor maths that depends on no value.
            It is run once, here.
        inputs: tensors of the shapes and dtypes that it is going to be called with.
        weights: tensors that it may hold; their values may change, in place.
    """

    def __init__(self, function, inputs, weights):
        token = _IS_RECORDING.set(True)
        try:
            # On copies: the run that is recorded writes in place, too, and would do a step twice.
            module = make_fx(function)(*(x.clone() for x in inputs))
        finally:
            _IS_RECORDING.reset(token)
        self._weights = list(weights)
        self._addresses = [weight.data_ptr() for weight in self._weights]
        self._state = _state_of(self._weights)
        self.is_closed = _holds_only(module, self._addresses)
        self.has_packed = Simplifier(module, self._addresses).run() > 0
        self.run = module.forward
        self.num_operators = sum(node.op == "call_function" for node in module.graph.nodes)

    def fits(self, weights):
        """Whether the weights are still the tensors that were recorded."""
        if self.has_packed:  # copies of the weights: their values must be the same, too
            return self.is_closed and _state_of(weights) == self._state
        return self.is_closed and [weight.data_ptr() for weight in weights] == self._addresses


def _state_of(weights):
    return [(weight.data_ptr(), weight._version) for weight in weights]


def _holds_only(module, addresses):
    """Whether all tensors that the function took from outside are weights: others would be those of one call."""
    known = set(addresses)
    for node in module.graph.nodes:
        if node.op != "get_attr" or all(user.target is torch.ops.aten.lift_fresh_copy.default for user in node.users):
            continue
        if _attribute(module, node).data_ptr() not in known:
            return False
    return True


def _attribute(module, node):
    value = module
    for name in node.target.split("."):
        value = getattr(value, name)
    return value


class Simplifier:
    """Takes work out of a recorded graph: what is the same at each call, what is done twice, what nobody reads.

    Args:
        module: a `torch.fx.GraphModule` of operators.
        addresses: where the weights lie. Views of weights are made once; their values are read at each call.
    """

    def __init__(self, module, addresses):
        self._module, self._graph = module, module.graph
        self._addresses = set(addresses)
        self._constants = {}

    def run(self):
        """Rewrites the graph of the module in place; returns how many weights were packed."""
        self._written = self._nodes_written_to()
        self._fold()
        self._merge()
        num_packed = pack_products(self._module, lambda node: _attribute(self._module, node), self._is_weight)
        separate_outputs(self._graph)
        self._graph.eliminate_dead_code()
        self._module.recompile()
        return num_packed

    def _nodes_written_to(self):
        """Nodes that operators in place change, as far back as views go, and all views of those."""
        written = set()
        for node in reversed(self._graph.nodes):
            if _is_in_place(node) or (node in written and may_be_view(node)):
                written.update(node.args[:1])
        for node in self._graph.nodes:
            if may_be_view(node) and any(source in written for source in node.all_input_nodes):
                written.add(node)
        return written

    def _is_pure(self, node):
        if node.op != "call_function" or node in self._written or _is_in_place(node):
            return False
        is_random = torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
        return not is_random and not any(source in self._written for source in node.all_input_nodes)

    def _fold(self):
        """Computes what depends on no input: all of it for constants, views alone for weights."""
        values = {}
        for node in list(self._graph.nodes):
            if node.op == "get_attr":
                values[node] = _attribute(self._module, node)
            elif self._is_pure(node) and all(source in values for source in node.all_input_nodes):
                self._fold_node(node, values)

    def _fold_node(self, node, values):
        arguments = torch.fx.node.map_arg((node.args, node.kwargs), values.get)
        result = node.target(*arguments[0], **arguments[1])
        if not isinstance(result, torch.Tensor):
            return
        sources = [values[source] for source in node.all_input_nodes]
        if any(self._is_weight(source) for source in sources) and not self._is_weight(result):
            return
        name = f"_folded_{len(self._constants)}"
        self._constants[name] = result
        self._module.register_buffer(name, result, persistent=False)
        with self._graph.inserting_before(node):
            constant = self._graph.get_attr(name)
        node.replace_all_uses_with(constant)
        values[constant] = result
        self._graph.erase_node(node)

    def _is_weight(self, tensor):
        return tensor.untyped_storage().data_ptr() in self._addresses

    def _merge(self):
        """Lets equal operators on equal inputs be computed once."""
        seen = {}
        for node in list(self._graph.nodes):
            key = self._key(node)
            if key is None:
                continue
            first = seen.setdefault(key, node)
            if first is not node:
                node.replace_all_uses_with(first)
                self._graph.erase_node(node)

    def _key(self, node):
        if node.op == "get_attr":
            value = _attribute(self._module, node)
            is_small = value.numel() <= 4096 and not self._is_weight(value)
            content = repr(value.tolist()) if is_small else value.data_ptr()
            return "get_attr", tuple(value.shape), value.dtype, value.stride(), content
        if not self._is_pure(node):
            return None
        return node.target, repr(node.args), repr(node.kwargs)


def _is_in_place(node):
    return node.op == "call_function" and getattr(getattr(node.target, "_schema", None), "is_mutable", False)


class Unrecorded:
    """A function that is run as it is, in the place of its recording."""

    def __init__(self, function):
        self.run = function

    def fits(self, weights):
        """False: what the function holds is that of one call."""
        return False


class Recordings:
    """The recordings of one compiled function, by the shapes of what they are called with."""

    def __init__(self, variables):
        self._variables = list(variables)
        self._kept = {}
        self._place = 0

    @contextlib.contextmanager
    def active(self):
        """Loops inside the `with` block are recorded here."""
        token = _ACTIVE.set(self)
        self._place = 0
        try:
            yield
        finally:
            _ACTIVE.reset(token)

    def record(self, function, inputs):
        """The recording of `function` for such inputs: one that is kept, or a new one."""
        weights = [variable.value for variable in self._variables]
        self._place += 1
        key = (self._place, *((tuple(x.shape), x.dtype, x.device) for x in inputs))
        if key not in self._kept or not self._kept[key].fits(weights):
            self._kept[key] = self._try(function, inputs, weights)
        return self._kept[key]

    def _try(self, function, inputs, weights):
        try:
            return Recording(function, inputs, weights)
        except RuntimeError as error:
            if "trying to get value out of a tracing tensor" not in str(error):
                raise
            warnings.warn(
                "A decoding loop reads the value of a tensor at each step, perhaps by an index into another one, so it "
                "cannot be recorded and runs slower. `keras.ops.take` with a tensor of indices reads no value.",
                stacklevel=2,
            )
            return Unrecorded(function)

    def __len__(self):
        return len(self._kept)


_ACTIVE = contextvars.ContextVar("keras_tfm_recordings", default=None)


def active_recordings():
    """The `Recordings` of the function that is running, or `None`."""
    return _ACTIVE.get()
