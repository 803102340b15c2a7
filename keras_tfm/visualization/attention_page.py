"""One HTML file that shows what attention does: every layer and head, in any browser, without a server."""

import html
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_tfm.visualization.attention_packing import pack_scores, pack_vectors
from keras_tfm.visualization.attention_svg import COLOURS, heads_svg, heat_map_svg
from keras_tfm.visualization.collect_attention import collect_attention
from keras_tfm.visualization.labels import visible_token
from keras_tfm.visualization.page_template import fill_template

KINDS = ("encoder", "decoder", "cross")
_SIDES = {"encoder": ("source", "source"), "decoder": ("target", "target"), "cross": ("target", "source")}


def attention_page(
    model,
    inputs,
    source_tokens,
    target_tokens=None,
    path=None,
    *,
    output_tokens=None,
    title=None,
    row=0,
    with_vectors=False,
):
    """Writes one HTML file in which the attention of every layer and head of a model can be looked at.

    The file needs no network, no server and no notebook; in a notebook the result shows itself. It has lines from token
    to token, the sentences, heat maps, a grid of all layers and heads, and, `with_vectors`, queries times keys.

    Args:
        model: any Keras model with attention of this package, or what else `collect_attention` takes.
        inputs: what the model is called with.
        source_tokens: list of S strings, one a position of row `row`: what the encoder reads. A model with causal
            attention only, such as a language model, has its tokens here too.
        target_tokens: list of T strings, what the decoder reads. Defaults to `None`: there is no second sequence.
        path: where to write the page. Defaults to `None`: nowhere.
        output_tokens: list of T strings, what the decoder writes after each of `target_tokens`: the names of its
            positions in cross-attention, where they show what is translated. Defaults to `None`: `target_tokens`.
        title: string above the page. Defaults to `None`: the name of the model.
        row: which row of the batch is shown. Defaults to 0.
        with_vectors: whether queries and keys are in the page too, about T + S bytes times heads times head size a
            layer before compression. Defaults to `False`.

    Returns:
        An `AttentionPage`.

    Numerics:
        Scores are kept as one byte: the error is at most 1/510.

    Raises:
        ValueError: The tokens are not as many as the positions, or the model has no attention with scores.

    Example:

    >>> import numpy as np
    >>> from keras_tfm.models import SequenceTagger
    >>> model = SequenceTagger(5, 1, 16, 32, 2, vocabulary_size=30)
    >>> page = attention_page(model, np.array([[4, 5, 6]]), ["the", "cat", "sat"], title="A tagger")
    >>> page.html.startswith("<!doctype html>")
    True
    """
    records = collect_attention(model, inputs, with_vectors=with_vectors)
    title = title or f"Attention of {getattr(model, 'name', 'a model')}"
    page = AttentionPage.from_records(
        records, source_tokens, target_tokens, output_tokens=output_tokens, title=title, row=row
    )
    if path is not None:
        page.save(path)
    return page


class PageLayer(NamedTuple):
    """The attention of one layer for one row of a batch.

    Args:
        name: string.
        kind: `"encoder"`, `"decoder"` or `"cross"`.
        scores: float32 `[N, T, S]`.
        query: float32 `[T, N, H]`, or `None`.
        key: float32 `[S, K, H]`, or `None`.
    """

    name: str
    kind: str
    scores: np.ndarray
    query: np.ndarray | None
    key: np.ndarray | None


class AttentionPage:
    """An HTML page about the attention between tokens; `attention_page` makes it from a model.

    Args:
        layers: list of `PageLayer`.
        tokens: dict of `"source"`, `"target"` and `"output"` to lists of strings; the others may be `None`.
        title: string.

    Example:

    >>> from keras_tfm.visualization.collect_attention import AttentionRecord
    >>> scores = np.array([[[[0.9, 0.1], [0.5, 0.5]]]], "float32")
    >>> records = [AttentionRecord("attention", "encoder", scores)]
    >>> page = AttentionPage.from_records(records, ["good", "day"])
    >>> page.to_svg(view="heads", threshold=0.2).count('class="line"')
    3
    """

    def __init__(self, layers, tokens, title):
        self.layers, self.tokens, self.title = layers, tokens, title
        self._html = None

    @classmethod
    def from_records(cls, records, source_tokens, target_tokens=None, *, output_tokens=None, title="Attention", row=0):
        """Makes a page from what `collect_attention` returned, or from records of that form.

        Args:
            records: iterable of records with `layer`, `kind`, `scores [B, N, T, S]`, `query [B, T, N, H]` or `None`
                and `key [B, S, K, H]` or `None`.
            source_tokens: list of S strings.
            target_tokens: list of T strings, or `None`.
            output_tokens: list of T strings, or `None`.
            title: string. Defaults to "Attention".
            row: which row of the batch is shown. Defaults to 0.

        Returns:
            An `AttentionPage`.

        Raises:
            ValueError: There is no record, or the tokens are not as many as the positions.
        """
        given = {"source": source_tokens, "target": target_tokens, "output": output_tokens}
        tokens = {side: _checked_tokens(f"{side}_tokens", row_tokens) for side, row_tokens in given.items()}
        layers = [_layer_of(record, row) for record in records]
        if not layers:
            raise ValueError("`records` must have one record at least: the model has no attention to show")
        for layer in layers:
            _check_lengths(layer, tokens)
        return cls(layers, tokens, title)

    @property
    def html(self):
        """The page as a string."""
        if self._html is None:
            self._html = fill_template(self.title, self._data())
        return self._html

    def save(self, path):
        """Writes the page; an older file stays whole until the new one is.

        Args:
            path: a path.

        Returns:
            The path, as `pathlib.Path`.
        """
        return _write(path, self.html)

    def to_svg(self, layer=-1, head=None, kind=None, *, view="heads", threshold=0.05, title=None, path=None):
        """Draws one layer as a vector picture, for a paper.

        Args:
            layer: index among the layers of the kind. Defaults to the last.
            head: index of the head to draw. Defaults to `None`: all, with their mean in a heat map.
            kind: `"encoder"`, `"decoder"` or `"cross"`. Defaults to `None`: the kind of the last layer.
            view: `"heads"` for lines from token to token, or `"heatmap"`. Defaults to `"heads"`.
            threshold: scores below it are not drawn. Defaults to 0.05.
            title: string above the picture. Defaults to `None`: no title.
            path: where to write the picture. Defaults to `None`: nowhere.

        Returns:
            String: an SVG document.

        Raises:
            ValueError: There is no such layer, head, kind or view.
        """
        chosen = self._find(layer, kind)
        if head is not None and not 0 <= head < len(chosen.scores):
            raise ValueError(f"`head` must be in 0 to {len(chosen.scores) - 1}. Received: head={head}")
        if view not in ("heads", "heatmap"):
            raise ValueError(f"`view` must be 'heads' or 'heatmap'. Received: view={view!r}")
        labels = [[*map(visible_token, self.tokens[side])] for side in self._sides(chosen.kind)]
        heads = [*range(len(chosen.scores))] if head is None else [head]
        if view == "heads":
            picture = heads_svg(chosen.scores, *labels, heads, threshold, title)
        else:
            picture = heat_map_svg(chosen.scores[heads].mean(axis=0), *labels, threshold, title)
        if path is not None:
            _write(path, picture)
        return picture

    def _repr_html_(self):
        return (
            f'<iframe title="{html.escape(self.title)}" sandbox="allow-scripts" width="100%" height="720" '
            f'style="border:0" srcdoc="{html.escape(self.html)}"></iframe>'
        )

    def _find(self, layer, kind):
        kind = kind or self.layers[-1].kind
        same = [candidate for candidate in self.layers if candidate.kind == kind]
        if not same:
            found = sorted({candidate.kind for candidate in self.layers})
            raise ValueError(f"`kind` must be one that the model has: {found}. Received: kind={kind!r}")
        if not -len(same) <= layer < len(same):
            raise ValueError(f"`layer` must be less than the {len(same)} of kind {kind!r}. Received: layer={layer}")
        return same[layer]

    def _sides(self, kind):
        return _sides(kind, self.tokens)

    def _data(self):
        return {
            "tokens": {side: tokens and [*map(visible_token, tokens)] for side, tokens in self.tokens.items()},
            "colours": COLOURS,
            "layers": [_packed(layer, self._sides(layer.kind)) for layer in self.layers],
        }


def _checked_tokens(name, tokens):
    if tokens is None and name != "source_tokens":
        return None
    if tokens is None or isinstance(tokens, (str, bytes)) or not all(isinstance(token, str) for token in tokens):
        raise ValueError(f"`{name}` must be a list of strings, one a position. Received: {name}={tokens!r}")
    return list(tokens)


def _layer_of(record, row):
    scores = np.asarray(record.scores, dtype="float32")
    if record.kind not in KINDS:
        raise ValueError(f"The kind of a record must be one of {KINDS}. Received: kind={record.kind!r}")
    if scores.ndim != 4 or not np.isfinite(scores).all():
        raise ValueError(f"Scores must be finite and [B, N, T, S]. Received: shape {scores.shape} of {record.layer}")
    if not 0 <= row < len(scores):
        raise ValueError(f"`row` must be in the batch of {len(scores)}. Received: row={row}")
    vectors = [None if values is None else np.asarray(values, "float32")[row] for values in (record.query, record.key)]
    return PageLayer(record.layer, record.kind, scores[row], *vectors)


def _sides(kind, tokens):
    """The sides of query and key; causal attention alone has but one sequence."""
    if kind == "decoder" and tokens["target"] is None:
        return "source", "source"
    return ("output", "source") if kind == "cross" and tokens["output"] is not None else _SIDES[kind]


def _check_lengths(layer, tokens):
    for side, length, letter in zip(_sides(layer.kind, tokens), layer.scores.shape[1:], "TS", strict=True):
        name = f"{side}_tokens"
        if tokens[side] is None:
            raise ValueError(f"`{name}` must be given: {layer.name} is {layer.kind} attention. Received: {name}=None")
        if len(tokens[side]) != length:
            raise ValueError(
                f"`{name}` must have a token for each of the {letter}={length} positions of {layer.name}, padding too. "
                f"Received: {len(tokens[side])} tokens"
            )


def _packed(layer, sides):
    packed = {
        **{"name": layer.name, "kind": layer.kind, "sides": sides, "shape": layer.scores.shape},
        "scores": pack_scores(layer.scores),
    }
    for name, vectors in (("query", layer.query), ("key", layer.key)):
        if vectors is not None:
            data, scales = pack_vectors(vectors)
            packed[name] = {"data": data, "scales": scales, "width": vectors.shape[-1]}
    return packed


def _write(path, text):
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", text=False)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path
