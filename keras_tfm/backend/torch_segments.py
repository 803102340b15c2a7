"""PyTorch: segments, each of which meets its own keys alone where their borders are known: no mask, no other pair.

n segments in a row take a part in n of its time, and real tokens packed into one row none for padding.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
import torch

from keras_tfm.backend.kernel import Kernel, why_not_fused
from keras_tfm.backend.torch_attention import (
    OnDemand,
    Scores,
    additive,
    attend_in_place,
    cut_scores,
    draw_parts,
    why_not_in_place,
)
from keras_tfm.backend.torch_unpadding import known_values

_FEWEST_SAVED = 1 << 15  # scores that each segment must leave out: its calls cost as much


class Run(NamedTuple):
    """Where a segment lies, counted through all rows of the batch."""

    query_start: int
    num_queries: int
    key_start: int
    num_keys: int


def _why_not(request):
    mask = request.mask
    if mask.segments is None:
        return "there are no segments"
    if not mask.is_only("is_causal", "key_padding", "query_padding", "segments"):
        return "a window, an explicit mask, a pattern or a prefix is not cut at the borders of segments"
    if request.biases:
        return "a bias is not cut at the borders of segments"
    reason = why_not_fused(dataclasses.replace(request, dropout=None))
    if reason is None and request.dropout is not None:
        reason = why_not_in_place(request)
    if reason is not None:
        return reason
    runs = _find_runs(request)
    if runs is None:
        return "the borders of segments are known on a CPU, where nothing is compiled"
    if not runs:
        return "a segment lies in several places, or none has queries and keys"
    if mask.is_causal and not all(_are_in_order(request, run) for run in runs):
        return "queries and keys of a segment do not rise from the same position"
    return None


def _why_rather_not(request):
    runs = _find_runs(request)
    pairs = request.query.shape[0] * request.query.shape[1] * request.key.shape[1]
    saved = (pairs - sum(run.num_queries * run.num_keys for run in runs)) * request.query.shape[2]
    if saved < _FEWEST_SAVED * len(runs):
        return f"{len(runs)} segments leave out {saved} scores: their calls cost more"
    return None


def _run(request):
    run = _run_sdpa if request.dropout is None else _run_dropout
    batch, length = request.query.shape[:2]
    output = run(request, _find_runs(request), *(x.flatten(0, 1) for x in (request.query, request.key, request.value)))
    return output.view(batch, length, *output.shape[1:]), None


def _run_sdpa(request, runs, query, key, value):
    of_queries, of_keys = [run[:2] for run in runs], [run[2:] for run in runs]
    pieces = _split(query, of_queries), _split(key, of_keys), _split(value, of_keys)
    parts, end = [], 0
    for (start, size), *heads in zip(of_queries, *pieces, strict=True):
        output = torch.nn.functional.scaled_dot_product_attention(
            *(x.transpose(0, 1)[None] for x in heads),
            is_causal=request.mask.is_causal,
            scale=request.scale,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        parts += [query.new_zeros(start - end, query.shape[1], value.shape[-1]), output[0].transpose(0, 1)]
        end = start + size
    parts.append(query.new_zeros(query.shape[0] - end, query.shape[1], value.shape[-1]))
    return torch.cat(parts)


def _run_dropout(request, runs, query, key, value):
    num_heads, num_shared, is_causal = query.shape[1], key.shape[1], request.mask.is_causal
    parts = []
    for run in runs:
        shape = 1, num_heads, run.num_queries, run.num_keys
        parts += cut_scores(shape, num_shared, run.query_start, run.key_start, sees_no_later_key=is_causal)
    starts = {run.key_start: run.query_start for run in runs}

    def mask_of(part):
        first = part.queries.start - starts[part.keys.start]
        return additive(torch.ones(part.shape[2:], dtype=torch.bool).tril(first)) if is_causal else None

    query, key, value = (x.transpose(0, 1)[None] for x in (query * request.scale, key, value))
    scores = Scores(parts, draw_parts(parts, request.dropout.seed_generator), OnDemand(parts, mask_of))
    return attend_in_place(query, key, value, None, scores, request.dropout.rate)[0].transpose(0, 1)


def _find_runs(request):
    """A `Run` for each segment that has queries and keys, in the order of the queries; padding is in none.

    Returns:
        A list, empty where a segment lies in several places; `None` where values are not known.
    """
    mask = request.mask
    queries = _runs_of(mask.segments[0], mask.query_padding, request.query)
    is_of_itself = mask.segments[0] is mask.segments[1] and mask.query_padding is mask.key_padding
    keys = queries if is_of_itself else _runs_of(mask.segments[1], mask.key_padding, request.key)
    if queries is None or keys is None:
        return None
    is_several = any(len(places) > 1 for runs in (queries, keys) for places in runs.values())
    return [] if is_several else [Run(*places[0], *keys[name][0]) for name, places in queries.items() if name in keys]


def _runs_of(segments, padding, heads):
    """`(row, segment)`: list of `(start, size)`."""
    segments, real = known_values(segments), True if padding is None else known_values(padding)
    if segments is None or real is None or heads.device.type != "cpu":
        return None
    shape = tuple(heads.shape[:2])
    segments, real = np.broadcast_to(segments, shape), np.broadcast_to(real, shape)
    begins = np.ones(shape, bool)
    begins[:, 1:] = (segments[:, 1:] != segments[:, :-1]) | (real[:, 1:] != real[:, :-1])
    starts = np.flatnonzero(begins)
    sizes = np.diff(starts, append=segments.size)
    runs = {}
    for start, size in zip(starts.tolist(), sizes.tolist(), strict=True):
        row, place = divmod(start, shape[1])
        if real[row, place]:
            runs.setdefault((row, int(segments[row, place])), []).append((start, size))
    return runs


def _are_in_order(request, run):
    """Whether queries and keys of a run stand at the same places from its first on, each later than the one before."""
    queries, keys = (known_values(x) for x in request.positions)
    if queries is None or keys is None:
        return False
    queries = _part(queries, request.query.shape[1], *run[:2])
    keys = _part(keys, request.key.shape[1], *run[2:])
    both = min(len(queries), len(keys))
    return bool((queries[:both] == keys[:both]).all() and all((np.diff(x) > 0).all() for x in (queries, keys)))


def _part(positions, length, start, size):
    row, place = divmod(start, length)
    if positions.ndim == 2:
        positions = positions[row if len(positions) > 1 else 0]
    return positions[place : place + size]


def _split(tokens, spans):
    """`[size, N, H]` for each `(start, size)` of `tokens [M, N, H]`, as one operation."""
    borders = sorted({0, len(tokens), *(border for span in spans for border in _ends(*span))})
    pieces = dict(zip(borders, tokens.split(np.diff(borders).tolist()), strict=False))
    return [pieces[start] for start, _ in spans]


def _ends(start, size):
    return start, start + size


TORCH_SEGMENTS = Kernel("torch_segments", _why_not, _run, _why_rather_not)
