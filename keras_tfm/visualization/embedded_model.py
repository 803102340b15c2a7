"""A model taken apart where its token ids become vectors, since ids have no gradient and vectors do."""

import keras
import numpy as np
from keras import ops

from keras_tfm.layers import AttachMask
from keras_tfm.models.layer_calls import Slot, trace_calls


class EmbeddedModel:
    """The embedding of a Functional model, and the rest of it as a function of the embedded tokens.

    The layers are the model's own, with its weights, as they are at each call.

    Args:
        model: a Functional or Sequential model whose token ids `[B, T]` go into an embedding layer, as every model of
            `keras_tfm.models` that reads ids.
        input_name: name of the input with the ids. `None` means the first that is embedded.

    Attributes:
        embedder: `keras.Model` of the model's inputs, to the embedded tokens `[B, T, D]`.
        rest: `keras.Model` of a list, the embedded tokens and the model's inputs, to the model's outputs. The ids still
            say where padding is, and are read wherever else the model reads them.

        calls, slots, output_slots: the model's calls in order and the places of its inputs and outputs, as
            `keras_tfm.models.layer_calls` has them; `embedding_call` is that of the embedding.

    Raises:
        ValueError: the model is not Functional, no input of that name is embedded by a layer of its own, or the
            embedded tokens are not `[B, T, D]`.

    Example:

    >>> import keras, numpy as np
    >>> from keras_tfm.models import SequenceTagger
    >>> model = SequenceTagger(5, 1, 16, 32, 2, vocabulary_size=30)
    >>> ids = np.array([[4, 5, 6, 0]])
    >>> parts = EmbeddedModel(model)
    >>> embeddings = parts.embed(ids)
    >>> embeddings.shape
    (1, 4, 16)
    >>> logits = keras.ops.convert_to_numpy(parts.call_rest(embeddings, ids))
    >>> bool(np.allclose(logits, keras.ops.convert_to_numpy(model(ids)), atol=1e-5))
    True
    """

    def __init__(self, model, input_name=None):
        self.model = model
        self._inputs, self.calls, self.output_slots = trace_calls(model)
        self.slots = list(self._inputs.values())
        inputs, values = self._new_inputs()
        place, self._ids = self._find_embedding(values, input_name)
        self.embedding_call = self.calls[place]
        embedded = values[self.embedding_call.outputs[0].number]
        if len(embedded.shape) != 3:
            raise ValueError(
                f"The embedded tokens must be [B, T, D]. Received: {tuple(embedded.shape)} from the layer "
                f"{self.embedding_call.layer.name!r}"
            )
        self.width = embedded.shape[-1]
        self.embedder = keras.Model(inputs, embedded)
        self.rest = self._make_rest()

    def _new_inputs(self):
        tensors = {slot: like for slot, like in zip(self._inputs.values(), self.model.inputs, strict=True)}
        inputs = [keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name) for x in tensors.values()]
        return inputs, {slot.number: x for slot, x in zip(tensors, inputs, strict=True)}

    def _find_embedding(self, values, input_name):
        """The place among the calls of the first layer that makes vectors of ids, and of the input they come from.

        All calls up to it are run.
        """
        names = [input_name] if input_name is not None else list(self._inputs)
        if not {*names} <= {*self._inputs}:
            raise ValueError(f"`input_name` must be one of {list(self._inputs)}. Received: input_name={input_name!r}")
        numbers = {name: self._inputs[name].number for name in names}
        # From each id tensor to the model's input that it comes from.
        ids = {number: name for name, number in numbers.items() if _is_integer(values[number])}
        for i, call in enumerate(self.calls):
            call.run(values)
            first = keras.tree.flatten(call.args)[:1]
            if not (first and isinstance(first[0], Slot) and first[0].number in ids):
                continue
            outputs = {slot.number for slot in call.outputs}
            if all(_is_integer(values[number]) for number in outputs):  # as with dropout of tokens
                ids |= dict.fromkeys(outputs, ids[first[0].number])
            elif isinstance(call.layer, keras.Layer) and not isinstance(call.layer, keras.Model):
                return i, list(self._inputs).index(ids[first[0].number])
        raise ValueError(
            "`model` must embed its token ids by a layer of its own, not of a model within. "
            f"Received: model={self.model.name!r}, input_name={input_name!r}"
        )

    def _make_rest(self):
        inputs, values = self._new_inputs()
        embedded = keras.Input((None, self.width), dtype=self.embedder.outputs[0].dtype, name="embeddings")
        for call in self.calls:
            call.run(values)
            if call is self.embedding_call:
                slot = call.outputs[0].number
                values[slot] = _with_mask_of(values[slot], embedded)
        return keras.Model([embedded, *inputs], [values[slot.number] for slot in self.output_slots])

    def arrays(self, inputs):
        """The model's inputs as a list of tensors, in its order, from an array, a list, a tuple or a dict by name."""
        if isinstance(inputs, dict):
            missing = [name for name in self._inputs if name not in inputs]
            if missing:
                raise ValueError(f"`inputs` must have all inputs of the model. Received: none for {missing}")
            inputs = [inputs[name] for name in self._inputs]
        elif not isinstance(inputs, (list, tuple)) or not hasattr(inputs[0], "shape"):
            inputs = [inputs]
        if len(inputs) != len(self._inputs):
            raise ValueError(f"`inputs` must be {list(self._inputs)}. Received: {len(inputs)} arrays")
        return [
            ops.convert_to_tensor(np.asarray(x) if isinstance(x, (list, tuple)) else x, dtype=like.dtype)
            for x, like in zip(inputs, self.model.inputs, strict=True)
        ]

    def with_token(self, inputs, token_id):
        """The model's inputs with one id in place of all that are embedded and are not 0."""
        inputs = self.arrays(inputs)
        ids = inputs[self._ids]
        inputs[self._ids] = ops.where(ids == 0, ids, ops.cast(token_id, ids.dtype))
        return inputs

    def embed(self, inputs):
        """The embedded tokens of the model's inputs, float32 numpy `[B, T, D]`."""
        embedded = self.embedder(self.arrays(inputs), training=False)
        return np.asarray(ops.convert_to_numpy(ops.cast(embedded, "float32")))

    def call_rest(self, embeddings, inputs):
        """The model's first output for embedded tokens `[B, T, D]` in place of those of its `inputs`."""
        inputs = [ops.convert_to_tensor(embeddings), *self.arrays(inputs)]
        return keras.tree.flatten(self.rest(inputs, training=False))[0]


def _with_mask_of(embedded, x):
    """`x` with the implicit mask of the embedded tokens, which follows from ids alone."""
    mask = getattr(embedded, "_keras_mask", None)
    return x if mask is None else AttachMask(dtype=x.dtype, name="embedding_mask")([x, mask])


def _is_integer(tensor):
    return "int" in keras.backend.standardize_dtype(tensor.dtype)
