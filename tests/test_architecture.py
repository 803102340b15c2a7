"""The arrows between the rooms of the package, read from its source: who may import whom."""

import ast
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FILES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "keras_tfm").rglob("*.py"))
LONGEST_FILE = 400
DYNAMIC_IMPORTS = {"importlib.import_module", "import_module", "__import__"}

ARROWS = {  # room: the rooms it may import, besides itself
    "backend": set(),
    "ops": {"backend"},
    "layers": {"backend", "ops"},
    "generation": {"backend", "ops"},
    "models": {"backend", "ops", "layers", "generation"},
    "interop": {"backend", "ops", "layers", "generation", "models"},
    "text": set(),
    "training": set(),
    "visualization": {"backend", "ops", "layers", "models"},
    "inspection": {"backend", "ops", "layers", "generation", "models"},
    "testing": {"backend", "ops", "layers", "generation", "models"},
    "version": set(),
}
ARROWS["__init__"] = set(ARROWS)
BACKENDS = {"jax", "jaxlib", "tensorflow", "torch"}
REQUIRED = {"keras", "numpy", "keras_tfm"} | sys.stdlib_module_names  # numpy comes with keras
OPTIONAL = {  # imported only inside functions: what the extras install, and what else comes with keras
    *("tokenizers", "sacrebleu", "nervaluate", "matplotlib", "tf_keras_vis", "keras_nlp", "keras_hub"),
    *("h5py", "ml_dtypes"),
}


def violations(path, source):
    """The rules that a file of the package breaks.

    Args:
        path: Where it lies, as `keras_tfm/room/file.py`.
        source: Its text.

    Returns:
        A list of strings, one for each broken rule.
    """
    tree = ast.parse(source)
    found = [] if ast.get_docstring(tree) else ["no docstring"]
    lines = len(source.splitlines())
    if lines > LONGEST_FILE:
        found.append(f"{lines} lines, more than {LONGEST_FILE}")
    for node, in_function in _walk(tree):
        found += [f"line {node.lineno}: {what}" for what in _broken_by(path, node, in_function)]
    return found


def _walk(node, in_function=False):
    for child in ast.iter_child_nodes(node):
        yield child, in_function
        yield from _walk(child, in_function or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)))


def _broken_by(path, node, in_function):
    if isinstance(node, ast.Assert):
        yield "assert"
    if isinstance(node, ast.Attribute) and ast.unparse(node) == "keras.src":
        yield "keras.src is private"
    if _reads_kernels(node) and path != "keras_tfm/ops/attention.py" and _room(path.split("/")) != "backend":
        yield "ops.attention alone reads backend.KERNELS"
    for name in _imported(path, node):
        yield from _broken_by_import(path, name, in_function)


def _reads_kernels(node):
    if isinstance(node, ast.ImportFrom):
        return any(alias.name == "KERNELS" for alias in node.names)
    return isinstance(node, ast.Attribute) and node.attr == "KERNELS"


def _imported(path, node):
    """The dotted names that a statement imports; `from a import b` is both `a` and, as it may be a module, `a.b`."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func) in (
        "importlib.import_module",
        "import_module",
        "__import__",
    ):
        return [node.args[0].value] if isinstance(node.args[0], ast.Constant) else []
    if not isinstance(node, ast.ImportFrom):
        return []
    package = path.split("/")[: -node.level] if node.level else []
    origin = ".".join([*package, *([node.module] if node.module else [])])
    return [f"{origin}.{alias.name}" for alias in node.names]


def _room(parts):
    return parts[1].removesuffix(".py") if len(parts) > 1 else ""


def _broken_by_import(path, name, in_function):
    parts = name.split(".")
    package = parts[0]
    if parts[:2] == ["keras", "src"]:
        yield "keras.src is private"
    if package in BACKENDS:
        backend = package.removesuffix("lib")
        if not (path == f"keras_tfm/backend/{backend}.py" or path.startswith(f"keras_tfm/backend/{backend}_")):
            yield f"{package} is imported only in keras_tfm/backend/{backend}*.py"
    elif package in OPTIONAL:
        if not in_function:
            yield f"{package} is optional: import it inside the function that needs it"
    elif package not in REQUIRED:
        yield f"{package} is neither a requirement nor an extra"
    if package == "keras_tfm":
        yield from _broken_by_arrow(_room(path.split("/")), _room(parts))


def _broken_by_arrow(room, imported):
    if room not in ARROWS:
        yield f"the room {room} has no arrows"
    elif imported not in ({*ARROWS[room], room, "version"} | ({"__version__"} if room == "__init__" else set())):
        yield f"{room} must not import {imported or 'the whole package'}"


@pytest.mark.parametrize("path", FILES)
def test_the_package_keeps_its_arrows(path):
    assert violations(path, (ROOT / path).read_text(encoding="utf-8")) == []


def test_the_whole_package_is_read():
    assert {"keras_tfm/__init__.py", "keras_tfm/version.py", "keras_tfm/backend/selection.py"} <= set(FILES)


@pytest.mark.parametrize(
    "path, statement, broken",
    [
        ("keras_tfm/backend/jax.py", "from keras_tfm.ops import masks", "backend must not import ops"),
        ("keras_tfm/ops/masks.py", "import keras_tfm.layers", "ops must not import layers"),
        ("keras_tfm/layers/feed_forward.py", "from keras_tfm import models", "layers must not import models"),
        ("keras_tfm/layers/feed_forward.py", "from ..generation import beam", "layers must not import generation"),
        ("keras_tfm/models/seq2seq.py", "from keras_tfm.interop import keras_hub", "models must not import interop"),
        (
            "keras_tfm/generation/beam.py",
            "from keras_tfm.layers import feed_forward",
            "generation must not import layers",
        ),
        ("keras_tfm/generation/beam.py", "from .. import models", "generation must not import models"),
        ("keras_tfm/text/batches.py", "from keras_tfm.ops import masks", "text must not import ops"),
        ("keras_tfm/training/losses.py", "import keras_tfm.text", "training must not import text"),
        ("keras_tfm/models/seq2seq.py", "from keras_tfm import visualization", "models must not import visualization"),
        (
            "keras_tfm/models/seq2seq.py",
            "from keras_tfm.inspection import explain",
            "models must not import inspection",
        ),
        ("keras_tfm/interop/keras_hub.py", "import keras_tfm.testing", "interop must not import testing"),
        ("keras_tfm/layers/feed_forward.py", "import keras_tfm", "layers must not import the whole package"),
        ("keras_tfm/misc/things.py", "from keras_tfm.ops import masks", "the room misc has no arrows"),
        ("keras_tfm/layers/feed_forward.py", "import jax.numpy", "jax is imported only in"),
        ("keras_tfm/layers/feed_forward.py", "def f():\n    import torch", "torch is imported only in"),
        ("keras_tfm/layers/feed_forward.py", "importlib.import_module('tensorflow')", "tensorflow is imported only in"),
        ("keras_tfm/backend/jax.py", "import torch", "torch is imported only in"),
        ("keras_tfm/text/subwords.py", "import tokenizers", "tokenizers is optional"),
        ("keras_tfm/text/subwords.py", "def f():\n    import pandas", "pandas is neither a requirement nor an extra"),
        ("keras_tfm/ops/masks.py", "from keras.src import backend", "keras.src is private"),
        ("keras_tfm/ops/masks.py", "from keras import src", "keras.src is private"),
        ("keras_tfm/ops/masks.py", "keras.src.backend.standardize_dtype", "keras.src is private"),
        ("keras_tfm/layers/feed_forward.py", "from keras_tfm.backend import KERNELS", "alone reads backend.KERNELS"),
        ("keras_tfm/ops/masks.py", "backend.KERNELS", "alone reads backend.KERNELS"),
        ("keras_tfm/ops/masks.py", "if True:\n    assert 1", "assert"),
        ("keras_tfm/ops/masks.py", "\n" * 400, "lines, more than 400"),
    ],
)
def test_a_broken_rule_is_found(path, statement, broken):
    found = violations(path, f'"""A docstring."""\n{statement}')
    assert len(found) == 1
    assert broken in found[0]


def test_a_missing_docstring_is_found():
    assert violations("keras_tfm/ops/masks.py", "import keras") == ["no docstring"]


@pytest.mark.parametrize(
    "path, statement",
    [
        ("keras_tfm/__init__.py", "from keras_tfm import layers, testing\nfrom keras_tfm.version import __version__"),
        ("keras_tfm/backend/torch.py", "import torch\nfrom . import kernel"),
        ("keras_tfm/ops/attention.py", "from keras_tfm import backend\nbackend.KERNELS"),
        ("keras_tfm/layers/feed_forward.py", "import keras\nimport numpy as np\nfrom ..ops.masks import AttentionMask"),
        (
            "keras_tfm/models/seq2seq.py",
            "from keras_tfm.generation import beam\nfrom keras_tfm import layers",
        ),
        ("keras_tfm/text/subwords.py", "import json\ndef f():\n    import tokenizers"),
        ("keras_tfm/testing.py", "from keras_tfm.layers.feed_forward import FeedForward"),
    ],
)
def test_what_the_arrows_allow_is_not_reported(path, statement):
    assert violations(path, f'"""A docstring."""\n{statement}') == []
