"""Vector pictures of attention for papers: lines from token to token, or a heat map."""

import html
import unicodedata

import numpy as np

COLOURS = (
    *("#d1495b", "#2e86ab", "#4f9d45", "#e08e1b", "#7b5ea7", "#1b998b"),
    *("#c2508f", "#8a6d3b", "#3f5fc4", "#9aa321", "#e4572e", "#5f7d8c"),
)
ROW, FONT_SIZE, GAP, MARGIN = 20, 13, 160, 12


def heads_svg(scores, query_tokens, key_tokens, heads, threshold, title):
    """Draws a line for each score of at least `threshold`, as opaque as the score is high, one colour a head.

    Args:
        scores: Floats `[N, T, S]`.
        query_tokens: List of T strings, on the left.
        key_tokens: List of S strings, on the right.
        heads: List of ints: the heads to draw.
        threshold: Float.
        title: String above the picture, or None.

    Returns:
        String: an SVG document.
    """
    left = MARGIN + max(map(_text_width, query_tokens))
    right = left + GAP
    top = MARGIN + ROW * bool(title)
    parts = []
    for head in heads:
        picked = np.argwhere(scores[head] >= threshold)
        order = np.argsort([scores[head][tuple(pair)] for pair in picked], kind="stable")
        for query, key in picked[order].tolist():
            parts.append(_line(left + 6, right - 6, top, query, key, head, float(scores[head, query, key])))
    for side, tokens, x, anchor in (("query", query_tokens, left, "end"), ("key", key_tokens, right, "start")):
        for index, token in enumerate(tokens):
            parts.append(_text(token, x, top + (index + 0.5) * ROW, f'class="{side}" text-anchor="{anchor}"'))
    width = right + max(map(_text_width, key_tokens)) + MARGIN
    return _document(parts, width, top + ROW * max(len(query_tokens), len(key_tokens)) + MARGIN, title)


def heat_map_svg(scores, query_tokens, key_tokens, threshold, title):
    """Draws a square for each score of at least `threshold`, as dark as the score is high.

    Args:
        scores: Floats `[T, S]`.
        query_tokens: List of T strings, one a row.
        key_tokens: List of S strings, one a column.
        threshold: Float.
        title: String above the picture, or None.

    Returns:
        String: an SVG document.
    """
    left = MARGIN + max(map(_text_width, query_tokens)) + 6
    top = MARGIN + ROW * bool(title) + max(map(_text_width, key_tokens)) + 6
    width, height = ROW * len(key_tokens), ROW * len(query_tokens)
    darkest = max(float(scores.max()), 1e-6)
    parts = [f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#999"/>']
    for query, key in np.argwhere(scores >= threshold).tolist():
        score = float(scores[query, key])
        parts.append(
            f'<rect class="cell" x="{left + ROW * key}" y="{top + ROW * query}" width="{ROW}" height="{ROW}" '
            f'fill="#123c69" fill-opacity="{min(max(score / darkest, 0.0), 1.0):.3f}" data-score="{score:.4f}"/>'
        )
    for index, token in enumerate(query_tokens):
        parts.append(_text(token, left - 6, top + (index + 0.5) * ROW, 'class="query" text-anchor="end"'))
    for index, token in enumerate(key_tokens):
        x, y = left + (index + 0.5) * ROW, top - 6
        parts.append(_text(token, x, y, f'class="key" text-anchor="start" transform="rotate(-90 {x} {y})"'))
    return _document(parts, left + width + MARGIN, top + height + MARGIN, title)


def _line(x1, x2, top, query, key, head, score):
    y1, y2, middle = top + (query + 0.5) * ROW, top + (key + 0.5) * ROW, (x1 + x2) / 2
    return (
        f'<path class="line" d="M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}" fill="none" '
        f'stroke="{COLOURS[head % len(COLOURS)]}" stroke-width="{0.75 + 2.25 * min(score, 1.0):.2f}" '
        f'stroke-opacity="{min(max(score, 0.0), 1.0):.3f}" '
        f'data-head="{head}" data-query="{query}" data-key="{key}" data-score="{score:.4f}"/>'
    )


def _document(parts, width, height, title):
    heading = [_text(title, MARGIN, MARGIN + 4, 'class="title" font-weight="bold"')] if title else []
    width = max(width, 2 * MARGIN + _text_width(title or ""))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="sans-serif" font-size="{FONT_SIZE}" fill="#1b1f24">',
            *([f"<title>{_escape(title)}</title>"] if title else []),
            *heading,
            *parts,
            "</svg>\n",
        ]
    )


def _text(text, x, y, attributes):
    return (
        f'<text x="{x}" y="{y}" dominant-baseline="central" style="unicode-bidi:plaintext" {attributes}>'
        f"{_escape(text)}</text>"
    )


def _escape(text):
    """Escapes for XML, which has no control characters and no lone surrogates: they become U+FFFD."""
    return html.escape("".join("\ufffd" if unicodedata.category(char) in ("Cc", "Cs") else char for char in str(text)))


def _text_width(text):
    """About the width in pixels: nobody knows the reader's font."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return 0.62 * FONT_SIZE * (len(text) - wide) + FONT_SIZE * 1.05 * wide
