"""Embeddings in the plane: the two directions in which they differ most."""

import numpy as np

from keras_tfm.visualization.figures import finish_figure, new_figure
from keras_tfm.visualization.labels import readable_labels, show_label, visible_token


def project_embeddings(vectors):
    """The first two principal components.

    Args:
        vectors: floats `[V, D]`, V at least 2.

    Returns:
        `(points, shares)`: float32 `[V, 2]`, and for each component its share of the variance.

    Raises:
        ValueError: If `vectors` is not `[V, D]` with at least two rows, or not finite.

    Reference:
        Jolliffe 2002, "Principal Component Analysis", section 3.5 (by singular values).

    Example:

    >>> import numpy as np
    >>> points, shares = project_embeddings(np.array([[0.0, 0, 0], [2, 0, 0], [4, 0, 0]]))
    >>> np.abs(points[:, 0]).tolist(), shares.tolist()
    ([2.0, 0.0, 2.0], [1.0, 0.0])
    """
    vectors = np.asarray(vectors, "float64")
    if vectors.ndim != 2 or len(vectors) < 2 or not np.isfinite(vectors).all():
        raise ValueError(f"`vectors` must be finite [V, D], V at least 2. Received: vectors of shape {vectors.shape}")
    centred = vectors - vectors.mean(0)
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    directions, sizes = (np.concatenate([x, np.zeros_like(x)])[:2] for x in (directions, sizes))
    variance = (centred**2).sum() or 1.0
    # Of each direction the sign is free: the largest part is made positive, so that pictures can be compared.
    largest = np.abs(directions).argmax(axis=1)
    signs = np.where(directions[np.arange(2), largest] < 0, -1.0, 1.0)
    return np.float32(centred @ (directions * signs[:, None]).T), np.float32(sizes**2 / variance)


def plot_embeddings(vectors, tokens, path=None, *, groups=None, title=None):
    """Draws each vector as a point with its token, in the plane of the first two principal components.

    Args:
        vectors: floats `[V, D]`.
        tokens: list of V strings, in any script.
        path: Where to write the picture, a PNG unless the suffix names another format. Default None: nowhere.
        groups: list of V strings, each of which has a colour. Default None: one colour.
        title: String above the picture. Default None.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: If the numbers of vectors, tokens and groups differ.
        ImportError: If matplotlib, the extra `vis`, is not installed.

    Example:

    >>> import numpy as np
    >>> figure = plot_embeddings(np.eye(3), ["one", "二", "drei"])
    >>> len(figure.axes[0].texts)
    3
    """
    points, shares = project_embeddings(vectors)
    groups = [""] * len(points) if groups is None else list(groups)
    if not len(points) == len(tokens) == len(groups):
        raise ValueError(
            "There must be a token and a group for each vector. "
            f"Received: {len(points)} vectors, {len(tokens)} tokens, {len(groups)} groups"
        )
    figure = new_figure(7.0, 5.5)
    axes = figure.subplots()
    names = list(dict.fromkeys(groups))
    labels = readable_labels([*map(visible_token, tokens), *names, title or ""])
    for name, (text, _) in zip(names, labels[len(tokens) :], strict=False):
        chosen = points[[group == name for group in groups]]
        axes.scatter(*chosen.T, s=14, label=text)
    for point, (text, font) in zip(points, labels, strict=False):
        label = axes.annotate(text, point, xytext=(4, 3), textcoords="offset points", fontsize=9)
        show_label(label, font)
    axes.set(xlabel=f"component 1 ({shares[0]:.0%})", ylabel=f"component 2 ({shares[1]:.0%})")
    axes.margins(0.12)
    if len(names) > 1:
        for text, (_, font) in zip(axes.legend(frameon=False).get_texts(), labels[len(tokens) :], strict=False):
            show_label(text, font)
    if title:
        show_label(axes.set_title(labels[-1][0], fontsize=11), labels[-1][1])
    return finish_figure(figure, path)
