"""All that a training run changes in a model, as named arrays and their description."""

import re

import keras
import numpy as np
from keras import ops


def read_state(model, with_metrics):
    """Copies the variables of model, optimizer and seed generators to the host, and those of the metrics if asked.

    Returns:
        A dict of NumPy arrays, and the list of their descriptions: dicts of name, shape and dtype in the same order.
    """
    arrays, descriptions = {}, []
    for key, variable in _named_variables(model, with_metrics).items():
        arrays[key] = to_array(variable)
        descriptions.append(_describe(variable))
    return arrays, descriptions


def check_state(model, arrays, descriptions, with_metrics, path):
    """Compares a file's arrays with the model's variables, before any of them is changed.

    Raises:
        ValueError: numbers, names, shapes or dtypes differ; names the file and the first difference.
    """
    variables = _named_variables(model, with_metrics)
    stored = dict(zip(arrays, descriptions, strict=True))
    for key, variable in variables.items():
        here, there = _describe(variable), stored.get(key)
        if there is None or _comparable(here) != _comparable(there):
            _fail(path, key, _format(here), "nothing" if there is None else _format(there))
    for key in stored:
        if key not in variables:
            _fail(path, key, "nothing", _format(stored[key]))


def assign_state(model, arrays, with_metrics):
    """Gives the variables of model, optimizer and seed generators their values, and those of the metrics if asked."""
    for key, variable in _named_variables(model, with_metrics).items():
        variable.assign(arrays[key])


def to_array(variable):
    """Returns the value of a variable as a NumPy array of its own."""
    return np.array(ops.convert_to_numpy(variable.value))


def build_metrics(model, batch):
    """Makes the variables of compiled metrics, which TensorFlow makes only when it traces the first batch."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(keras.tree.map_structure(ops.convert_to_tensor, batch))
    y_pred = model(x, training=False)
    model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
    model.compute_loss(x, y, y_pred, sample_weight=sample_weight, training=False)


def _named_variables(model, with_metrics):
    groups = {"model": model.variables, "optimizer": model.optimizer.variables}
    if with_metrics:
        groups["metrics"] = model.metrics_variables
    named, seen = {}, set()
    for group, variables in groups.items():
        unseen = [variable for variable in variables if not (id(variable) in seen or seen.add(id(variable)))]
        named.update({f"{group}/{index}": variable for index, variable in enumerate(unseen)})
    return named


def _describe(variable):
    dtype = keras.backend.standardize_dtype(variable.dtype)
    return {"name": variable.path, "shape": [int(size) for size in variable.shape], "dtype": dtype}


def _comparable(description):
    # Keras counts equal names up within a process: `dense_3` of this one may be `dense` of the one that wrote the file.
    name = re.sub(r"_\d+(?=[_/]|$)", "", description["name"])
    # Seeds are uint32 on one backend and int64 on another.
    dtype = "int" if "int" in description["dtype"] else description["dtype"]
    return name, description["shape"], dtype


def _format(description):
    return f"{description['name']} {tuple(description['shape'])} {description['dtype']}"


def _fail(path, key, here, there):
    raise ValueError(
        "The checkpoint must be of a model with the same variables, compiled with the same optimizer and metrics. "
        f"The first difference is {key}: {here} here, {there} in the file. Received: path={path!r}"
    )
