"""PyTorch: dropout from random words of 16 bits, drawn by numpy (PyTorch's own `bernoulli_` takes ten times as long).

What is done with them are operations that PyTorch vectorizes: comparing, and choosing by booleans, are none of them.
"""

import math

import numpy as np
import torch

from keras_tfm.backend.torch_zeroing import can_zero_by_bits, zeroed_by_bits


def dropout(x, rate, seed_generator):
    """`x` with some elements set to zero, the others scaled up; see `keras_tfm.ops.dropout.dropout`."""
    factor = 1 / (1 - rate)
    if not can_zero_by_bits(x):
        return torch.where(keep_mask(x.shape, rate, seed_generator, x), x * factor, 0)
    bits = (_bound(rate) - 1 - draw_words(x.shape, seed_generator).int()).bitwise_right_shift_(31)
    return zeroed_by_bits(x, bits, factor)


def keep_mask(shape, rate, seed_generator, like):
    """Which elements stay: bool `[*shape]`, each dropped with probability `rate`, exact to 2 ** -17 on a CPU.

    Args:
        shape: tuple of integers.
        rate: probability in [0, 1).
        seed_generator: a `keras.random.SeedGenerator`; one without a seed leaves the draw to PyTorch's own generator.
        like: a tensor on the device where the mask is wanted.
    """
    device = like.device
    if device.type == "meta":
        return torch.ones(shape, dtype=torch.bool, device=device)
    if device.type != "cpu" or torch.compiler.is_compiling():
        return torch.rand(shape, generator=_generator(seed_generator, device), device=device) >= rate
    return draw_words(shape, seed_generator) >= _bound(rate)


def signs_of(words, rate):
    """Random words as float32, positive where an element stays, else negative; never zero."""
    return words.float().add_(0.5 - _bound(rate))


def draw_words(shape, seed_generator):
    """Random int16 `[*shape]`."""
    return draw_words_at(shape, seeds_of_draw(seed_generator))


def draw_words_at(shape, seeds, place=()):
    """Random int16 `[*shape]`, the same for the same seeds of a draw and list of integers >= 0, its place in it."""
    size = math.prod(shape)
    draws = np.random.SFC64([*seeds, *place]).random_raw(-(-size // 4))
    return torch.from_numpy(draws.view(np.int16))[:size].view(shape)


def _bound(rate):
    """The smallest word whose element stays."""
    return round(rate * 2**16) - 2**15


def seeds_of_draw(seed_generator):
    """Integers of 64 bits that the draw is made from."""
    if seed_generator.get_config()["seed"] is None:
        return torch.empty(2, dtype=torch.int64).random_().tolist()
    return [int(word) for word in seed_generator.next()]


def _generator(seed_generator, device):
    """PyTorch's generator for one draw; `None` for its own."""
    if seed_generator.get_config()["seed"] is None:
        return None
    seed, draw = seeds_of_draw(seed_generator)
    return torch.Generator(device).manual_seed((seed * 0x9E3779B97F4A7C15 + draw) % 2**63)
