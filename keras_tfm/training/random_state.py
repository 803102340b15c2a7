"""The random generators of the backend that are no variables of Keras."""

import sys

import keras
import numpy as np

_CPU, _CUDA = "random/cpu", "random/cuda"


def read_random_state():
    """Returns the states of the backend's global generators as uint8 arrays by name, none on JAX and TensorFlow.

    Only PyTorch has such: Keras 3.15 draws the dropout of layers without a seed from them, for speed.
    """
    torch = _torch()
    if torch is None:
        return {}
    states = {_CPU: torch.get_rng_state()}
    if torch.cuda.is_initialized():
        states |= {f"{_CUDA}{index}": state for index, state in enumerate(torch.cuda.get_rng_state_all())}
    return {name: np.array(state.numpy()) for name, state in states.items()}


def assign_random_state(arrays):
    """Puts back what `read_random_state` returned; generators that are not among the arrays keep their states."""
    torch = _torch()
    if torch is None:
        return
    for name, array in arrays.items():
        state = torch.from_numpy(np.array(array))
        if name == _CPU:
            torch.set_rng_state(state)
        elif name.startswith(_CUDA) and int(name[len(_CUDA) :]) < torch.cuda.device_count():
            torch.cuda.set_rng_state(state, int(name[len(_CUDA) :]))


def _torch():
    # Keras has no public function for this; where PyTorch is the backend, Keras has imported it.
    return sys.modules.get("torch") if keras.backend.backend() == "torch" else None
