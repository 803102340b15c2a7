"""Decoding strategies over a step function: they know no layer and no model."""

from keras_tfm.generation.beam import beam_search
from keras_tfm.generation.greedy import greedy_search

__all__ = ["beam_search", "greedy_search"]
