"""PyTorch: random masks, four elements to a word of the generator (its own `bernoulli_` takes five times as long)."""

import math

import torch


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
    generator = None
    if seed_generator.get_config()["seed"] is not None:
        seed, draw = (int(word) for word in seed_generator.next())
        generator = torch.Generator(device).manual_seed((seed * 0x9E3779B97F4A7C15 + draw) % 2**63)
    if device.type != "cpu" or torch.compiler.is_compiling():
        return torch.rand(shape, generator=generator, device=device) >= rate
    size = math.prod(shape)
    words = torch.empty(-(-size // 4), dtype=torch.int64).random_(-(2**63), None, generator=generator)
    return (words.view(torch.int16)[:size] >= round(rate * 2**16) - 2**15).view(shape)
