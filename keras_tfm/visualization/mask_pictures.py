"""Pictures of masks: who may attend to whom."""

import numpy as np
from keras import ops

from keras_tfm.ops.mask_patterns import MaskPattern
from keras_tfm.ops.masks import AttentionMask
from keras_tfm.visualization.figures import finish_figure, new_figure

CELL_INCHES = 0.22


def plot_mask(mask, query_length=None, key_length=None, path=None, *, row=0, head=0, title=None):
    """Draws a mask, one row a query and one column a key: dark where the query may attend.

    Args:
        mask: a `keras_tfm.ops.AttentionMask`, a `keras_tfm.ops.MaskPattern`, or bools `[T, S]` or `[B, N, T, S]`.
        query_length: T, an int; not needed for an array.
        key_length: S, an int. Default None: T.
        path: Where to write the picture, a PNG unless the suffix names another format. Default None: nowhere.
        row: which row of the batch is drawn, where rows differ. Default 0.
        head: which head is drawn, where heads differ. Default 0.
        title: String above the picture. Default None.

    Returns:
        The `matplotlib.figure.Figure`.

    Masking:
        A padded query attends to nothing: its row is empty.

    Raises:
        ValueError: If a length is missing, or an array is not `[T, S]` or `[B, N, T, S]`.
        ImportError: If matplotlib, the extra `vis`, is not installed.

    Example:

    >>> from keras_tfm.ops import AttentionMask
    >>> figure = plot_mask(AttentionMask(is_causal=True), 3)
    >>> figure.axes[0].images[0].get_array().astype(int).tolist()
    [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    """
    allowed = _allowed(mask, query_length, key_length, row, head)
    figure = new_figure(*(max(size * CELL_INCHES, 1.5) + 0.8 for size in allowed.shape[::-1]))
    axes = figure.subplots()
    axes.imshow(allowed, cmap="Blues", vmin=0.0, vmax=1.3, interpolation="nearest")
    if max(allowed.shape) <= 64:
        axes.set_xticks(np.arange(allowed.shape[1] + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(allowed.shape[0] + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="0.85", linewidth=0.5)
        axes.tick_params(which="minor", length=0)
    axes.set(xlabel="key", ylabel="query")
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_major_locator().set_params(integer=True)
    if title:
        axes.set_title(title, fontsize=11, parse_math=False)
    return finish_figure(figure, path)


def _allowed(mask, query_length, key_length, row, head):
    """float32 `[T, S]`, 1 where a query may attend."""
    if isinstance(mask, (AttentionMask, MaskPattern)):
        if query_length is None:
            raise ValueError("`query_length` is needed to draw a mask that is no array. Received: query_length=None")
        key_length = query_length if key_length is None else key_length
        mask = AttentionMask(pattern=mask) if isinstance(mask, MaskPattern) else mask
        dense = mask.materialize(query_length, key_length)
        rows = mask.live_rows(query_length, key_length)
        allowed = np.ones((1, 1, query_length, key_length), bool) if dense is None else ops.convert_to_numpy(dense)
        if rows is not None:
            allowed = allowed & ops.convert_to_numpy(rows)[..., None]
    else:
        allowed = np.asarray(mask).astype(bool)
        if allowed.ndim not in (2, 4):
            raise ValueError(f"`mask` must be [T, S] or [B, N, T, S]. Received: mask of shape {allowed.shape}")
        allowed = allowed.reshape((1,) * (4 - allowed.ndim) + allowed.shape)
    row, head = min(row, allowed.shape[0] - 1), min(head, allowed.shape[1] - 1)
    return np.broadcast_to(
        allowed[row, head], (query_length or allowed.shape[2], key_length or allowed.shape[3])
    ).astype("float32")
