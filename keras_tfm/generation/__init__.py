"""Decoding strategies over a step function: they know no layer and no model."""

from keras_tfm.generation.beam import beam_search
from keras_tfm.generation.greedy import Greedy, greedy_search
from keras_tfm.generation.logit_rule import LogitRule
from keras_tfm.generation.strategy import Limits, Strategy, search

__all__ = ["Greedy", "Limits", "LogitRule", "Strategy", "beam_search", "greedy_search", "search"]
