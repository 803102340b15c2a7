"""Training: the learning-rate schedule, the loss and the metrics of tokens, checkpoint averaging and exact resume."""

from keras_tfm.training.losses import TokenCrossEntropy
from keras_tfm.training.metrics import Perplexity, TokenAccuracy
from keras_tfm.training.schedules import WarmupSchedule

__all__ = ["Perplexity", "TokenAccuracy", "TokenCrossEntropy", "WarmupSchedule"]
