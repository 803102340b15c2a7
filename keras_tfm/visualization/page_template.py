"""The HTML document around the data of a page, with everything that it needs inside."""

import base64
import hashlib
import html
import json
import re
from importlib import resources

SCRIPTS = (
    *("data.js", "state.js", "colours.js", "words.js", "token_list.js", "scroll_canvas.js"),
    *("head_view.js", "sentence_view.js", "heat_map.js", "grid_view.js", "neuron_view.js", "controls.js", "viewer.js"),
)


def fill_template(title, data):
    """Puts a title and data into the page, with its style and its scripts, and a policy that allows these alone.

    Args:
        title: string.
        data: what `json.dumps` takes.

    Returns:
        String: an HTML document.

    Example:

    >>> "<title>1 &lt; 2</title>" in fill_template("1 < 2", {})
    True
    """
    folder = resources.files("keras_tfm.visualization") / "viewer"
    style = (folder / "viewer.css").read_text(encoding="utf-8")
    script = "\n".join((folder / name).read_text(encoding="utf-8") for name in SCRIPTS)
    parts = {
        "title": html.escape(title.encode("utf-8", "replace").decode("utf-8")),
        **{"style": style, "script": script, "data": _as_json(data)},
        "policy": f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)}",
    }
    template = (folder / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def _as_json(data):
    """JSON that ends no script element, whatever the tokens are."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _source(text):
    """The hash by which a Content-Security-Policy allows one inline element and no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"
