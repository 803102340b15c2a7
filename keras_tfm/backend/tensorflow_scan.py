"""Loops over the first axis of tensors, whose gradient is a loop as well and takes time linear in its length."""

import tensorflow as tf
from keras import tree

_ops = tf.raw_ops


def scan(body, carry, slices, length):
    """`body(carry, slice) -> (carry, outputs)` once for each slice; see `keras_tfm.backend.functional.scan`.

    Slices are taken off a list, and outputs put onto one: the gradients of these two are again a put and a take. Those
    of reading and writing by index would add up whole lists at each step.
    """
    if tf.executing_eagerly():
        raise ValueError("`scan` needs a graph. Received: eager tensors")
    leaves = [tf.convert_to_tensor(leaf) for leaf in tree.flatten(carry)]
    sources = [tf.convert_to_tensor(leaf) for leaf in tree.flatten(slices)]
    flat_body = _FlatBody(body, carry, slices)
    specs = flat_body.output_specs([_spec(x) for x in leaves], [_spec(x[0]) for x in sources])

    def step(i, leaves, sources, results):
        popped = [_ops.TensorListPopBack(input_handle=x, **spec) for x, spec in zip(sources, source_specs, strict=True)]
        leaves, outputs = flat_body(leaves, [x.tensor for x in popped])
        results = [_ops.TensorListPushBack(input_handle=x, tensor=y) for x, y in zip(results, outputs, strict=True)]
        return i + 1, leaves, [x.output_handle for x in popped], results

    source_specs = [_element(_spec(x[0])) for x in sources]
    loop = (
        tf.constant(0),
        leaves,
        [_ops.TensorListFromTensor(tensor=x[::-1], element_shape=_shape(x.shape[1:])) for x in sources],
        [_ops.EmptyTensorList(max_num_elements=length, **_element(spec)) for spec in specs],
    )
    _, leaves, _, results = tf.while_loop(lambda i, *_: i < length, step, loop, maximum_iterations=length)
    outputs = [
        _ops.TensorListStack(input_handle=x, num_elements=length, **_element(spec))
        for x, spec in zip(results, specs, strict=True)
    ]
    return tree.pack_sequence_as(carry, leaves), tree.pack_sequence_as(flat_body.outputs, outputs)


class _FlatBody:
    """`body` on lists of tensors; after `output_specs` it knows the structure of its outputs."""

    def __init__(self, body, carry, slices):
        self._body, self._carry, self._slices = body, carry, slices
        self.outputs = None

    def __call__(self, leaves, elements):
        carry, outputs = self._body(
            tree.pack_sequence_as(self._carry, list(leaves)), tree.pack_sequence_as(self._slices, list(elements))
        )
        following = tree.flatten(carry)
        for x, y in zip(following, leaves, strict=True):
            if x.dtype != y.dtype:
                raise ValueError(f"A loop must keep the dtype of what it carries. Received: {y.dtype}, then {x.dtype}")
        self.outputs = tree.map_structure(lambda x: 0, outputs)
        return [tf.ensure_shape(x, y.shape) for x, y in zip(following, leaves, strict=True)], tree.flatten(outputs)

    def output_specs(self, leaves, elements):
        """The specifications of the outputs, by a trace that is thrown away: lists have to be made before the loop."""
        specs = []

        @tf.function(autograph=False)
        def trace(leaves, elements):
            specs.extend(_spec(x) for x in self(leaves, elements)[1])
            return tf.constant(0)

        trace.get_concrete_function(leaves, elements)
        return specs


def _spec(tensor):
    return tf.TensorSpec(tensor.shape, tensor.dtype)


def _element(spec):
    return {"element_shape": _shape(spec.shape), "element_dtype": spec.dtype}


def _shape(shape):
    return tf.constant([-1 if size is None else size for size in shape], tf.int32)
