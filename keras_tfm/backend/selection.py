"""The choice of an installed backend, made before Keras is imported and would fail on a missing TensorFlow."""

import importlib.util
import json
import os
import sys

BACKENDS = ("tensorflow", "jax", "torch")  # Keras' own default first


def choose_backend():
    """Sets `KERAS_BACKEND` to an installed backend if nobody chose one, and says so on standard error.

    Nothing is set once Keras is imported, where `KERAS_BACKEND` or Keras' configuration file names a backend, or
    where TensorFlow, the default of Keras, is installed. A configuration file that names a missing TensorFlow is no
    choice: Keras writes one by itself at its first import.

    Returns:
        The name of the backend that was set, or `None` where there was nothing to set.

    Raises:
        ImportError: If no backend is installed, or the chosen one is not.

    Example:

    >>> import keras
    >>> from keras_tfm.backend.selection import choose_backend
    >>> choose_backend() is None  # Keras is imported: too late to choose
    True
    """
    if "keras" in sys.modules:
        return None
    installed = [name for name in BACKENDS if _is_installed(name)]
    chosen, source = os.environ.get("KERAS_BACKEND"), "KERAS_BACKEND"
    if not chosen:
        source = _configuration_path()
        chosen = _configured_backend(source)
        if chosen == "tensorflow" and chosen not in installed:
            chosen = None
    if chosen:
        _check_installed(chosen, source, installed)
        return None
    if not installed:
        raise ImportError(f"Keras needs a backend and none is installed. Install one: {_commands(BACKENDS)}.")
    if installed[0] == BACKENDS[0]:
        return None
    os.environ["KERAS_BACKEND"] = installed[0]
    print(f"keras_tfm: no backend was chosen, using {installed[0]} (set KERAS_BACKEND to choose)", file=sys.stderr)
    return installed[0]


def _is_installed(name):
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None  # a folder that an uninstalled package left has no origin


def _check_installed(chosen, source, installed):
    if chosen in installed or chosen not in BACKENDS:  # Keras itself answers for any other name
        return
    raise ImportError(
        f"The chosen backend of Keras must be installed: {_commands([chosen])}. "
        f"Received: {source}={chosen!r}, installed: {', '.join(installed) or 'none'}."
    )


def _commands(names):
    return " or ".join(f'pip install "keras_tfm[{name}]"' for name in names)


def _configuration_path():
    home = os.environ.get("KERAS_HOME")
    if home is None:
        base = os.path.expanduser("~")
        home = os.path.join(base if os.access(base, os.W_OK) else "/tmp", ".keras")  # as Keras looks for it
    return os.path.expanduser(os.path.join(home, "keras.json"))


def _configured_backend(path):
    try:
        with open(path, encoding="utf-8") as file:
            configuration = json.load(file)
    except (OSError, ValueError):
        return None
    return configuration.get("backend") if isinstance(configuration, dict) else None
