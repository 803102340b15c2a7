"""`PrefixModel`s that read several tokens at once, at any earlier place: what speculative decoding asks of a model."""

import functools
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from tests.generation.prefix_model import following_code


class ChunkTensors(NamedTuple):
    """Target and drafter: tables of logits `[PREFIXES, V]` and the code of each row before the start token."""

    table: Any
    draft_table: Any
    codes: Any  # int32 [B]
    starts: Any  # int32 [B]


def extend_of(table):
    """The chunk step over `table`; its state is the code before each position, int32 `[B, positions + 1]`."""

    def extend(tokens, index, state):
        places = ops.arange(state.shape[1], dtype="int32")
        code = ops.take_along_axis(state, index[:, None], axis=1)[:, 0]
        logits = []
        for offset in range(tokens.shape[1]):
            code = following_code(code, tokens[:, offset], index + offset)
            state = ops.where(places == (index + offset + 1)[:, None], code[:, None], state)
            logits.append(ops.take(table, code, axis=0))
        return ops.stack(logits, axis=1), state

    return extend


def first_state(codes, num_positions):
    """Garbage but for the first code: nothing later may be read before it is written."""
    codes = ops.convert_to_tensor(codes, dtype="int32")[:, None]
    return ops.concatenate(
        [codes, ops.broadcast_to(ops.convert_to_tensor(-(10**6)), (codes.shape[0], num_positions))], 1
    )


def run(search, tensors, mode="eager", **options):
    """The results of `search(extend, draft_extend, states, starts, **options)` as numpy arrays."""
    results = _compiled(mode, search, tuple(options.items()))(*tensors)
    return tuple(ops.convert_to_numpy(result) for result in results)


@functools.cache
def _compiled(mode, search, options):
    def whole(table, draft_table, *others):
        tables = ops.convert_to_tensor(table), ops.convert_to_tensor(draft_table)
        return search(*map(extend_of, tables), *others, **dict(options))

    if mode == "jit":
        import jax

        return jax.jit(whole)
    if mode in ("graph", "xla"):
        import tensorflow as tf

        return tf.function(whole, jit_compile=mode == "xla")
    return whole


def tensors_of(model, draft_table=None):
    """Those of a `PrefixModel`; its own table drafts where none is given."""
    draft_table = model.table if draft_table is None else draft_table
    return ChunkTensors(model.table, np.asarray(draft_table), model.codes, model.starts)
