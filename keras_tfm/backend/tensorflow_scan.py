"""Loops over slices, whose gradient is a loop as well and takes time linear in its length.

XLA compiles equal kernels once. Slices of one tensor at other places are other kernels: 768 of them, the gradients of
48 blocks, take 14 seconds (TensorFlow 2.21, CPU), and 1 if their places are not constants.
"""

import tensorflow as tf
from keras import tree

_ops = tf.raw_ops
_WRITTEN_OUT = 512  # bytes of a small one


def scan(body, carry, slices, length):
    """`body(carry, slice) -> (carry, outputs)` once for each slice; see `keras_tfm.backend.functional.scan`.

    Slices are taken off a list, and outputs put onto one: the gradients of these two are again a put and a take. Those
    of reading and writing by index would add up whole lists at each step.
    """
    if tf.executing_eagerly():
        raise ValueError("`scan` needs a graph. Received: eager tensors")
    leaves = [tf.convert_to_tensor(leaf) for leaf in tree.flatten(carry)]
    columns = [[tf.convert_to_tensor(x) for x in column] for column in zip(*map(tree.flatten, slices), strict=True)]
    slice_specs = [_spec(column[0]) for column in columns]
    flat_body = _FlatBody(body, carry, slices[0])
    specs = flat_body.output_specs([_spec(x) for x in leaves], slice_specs)

    def step(i, leaves, sources, results):
        popped = [
            _ops.TensorListPopBack(input_handle=x, **spec) for x, spec in zip(sources, element_specs, strict=True)
        ]
        leaves, outputs = flat_body(leaves, [x.tensor for x in popped])
        results = [_ops.TensorListPushBack(input_handle=x, tensor=y) for x, y in zip(results, outputs, strict=True)]
        return i + 1, leaves, [x.output_handle for x in popped], results

    element_specs = [_element(spec) for spec in slice_specs]
    loop = (
        tf.constant(0),
        leaves,
        [
            _ops.TensorListFromTensor(tensor=stacked, element_shape=_shape(spec.shape))
            for stacked, spec in zip(_stack([column[::-1] for column in columns]), slice_specs, strict=True)
        ],  # the last one is taken first
        [_ops.EmptyTensorList(max_num_elements=length, **_element(spec)) for spec in specs],
    )
    _, leaves, _, results = tf.while_loop(lambda i, *_: i < length, step, loop, maximum_iterations=length)
    outputs = [
        _unstack(_ops.TensorListStack(input_handle=x, num_elements=length, **_element(spec)), spec, length)
        for x, spec in zip(results, specs, strict=True)
    ]
    outputs = [tree.pack_sequence_as(flat_body.outputs, [each[i] for each in outputs]) for i in range(length)]
    return tree.pack_sequence_as(carry, leaves), outputs


def _unstack(tensor, spec, length):
    is_plain = spec.dtype.is_floating or not spec.shape.is_fully_defined()
    return tf.unstack(tensor, length) if is_plain else _pick(tensor, spec.shape, _places(tensor, length))


def _stack(columns):
    """Each column as one tensor."""
    if not columns:
        return []
    length, kinds = len(columns[0]), [(column[0].shape, column[0].dtype, _axis(column[0])) for column in columns]

    @tf.custom_gradient
    def with_first_axis(*stacks):
        def gradient(*upstream):
            places = _places(next(x for x in upstream if x is not None and x.dtype.is_floating), length)
            # A compiler sees that the gradient of the stacks below takes apart what is put together here.
            return [
                tf.stack(_pick(x, shape, places), axis) if dtype.is_floating else None
                for x, (shape, dtype, axis) in zip(upstream, kinds, strict=True)
            ]

        pairs = zip(stacks, kinds, strict=True)
        return [tf.transpose(x, [axis, *range(axis)]) if axis else x for x, (_, _, axis) in pairs], gradient

    return with_first_axis(*(tf.stack(column, axis) for column, (*_, axis) in zip(columns, kinds, strict=True)))


def _axis(tensor):
    """Where to stack them. XLA writes the copies of small ones out: 0.1 s to schedule those of 48 × 64 floats."""
    shape = tensor.shape
    is_small = shape.is_fully_defined() and shape.num_elements() * tensor.dtype.size <= _WRITTEN_OUT
    return shape.rank if is_small else 0


def _pick(tensor, shape, places):
    """The elements along the first axis, each of a known shape: one operation a place."""
    spec = {"element_shape": _shape(shape), "element_dtype": tensor.dtype}
    elements = _ops.TensorListFromTensor(tensor=tensor, element_shape=spec["element_shape"])
    return [_ops.TensorListGetItem(input_handle=elements, index=i, **spec) for i in places]


def _places(tensor, length):
    """0 ... `length - 1` as int32 that a compiler cannot know: they would turn if a loop ran, which never runs."""
    bits = tf.bitcast(tf.cast(tf.reshape(tensor, [-1])[0], tf.float32), tf.uint32)
    shift = tf.bitwise.right_shift
    never = tf.cast(shift(shift(bits, tf.constant(31, tf.uint32)), tf.constant(1, tf.uint32)), tf.int32)
    places = [tf.constant(i) for i in range(length)]
    return tf.while_loop(lambda n, _: n > 0, lambda n, each: (n - 1, each[1:] + each[:1]), (never, places))[1]


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
