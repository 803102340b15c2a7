"""Training: the learning-rate schedule, the loss and the metrics of tokens, checkpoint averaging and exact resume."""

from keras_tfm.training.checkpoint_averaging import CheckpointAveraging
from keras_tfm.training.losses import TokenCrossEntropy
from keras_tfm.training.metrics import Perplexity, TokenAccuracy
from keras_tfm.training.schedules import WarmupSchedule
from keras_tfm.training.training_checkpoint import TrainingCheckpoint

__all__ = [
    "CheckpointAveraging",
    "Perplexity",
    "TokenAccuracy",
    "TokenCrossEntropy",
    "TrainingCheckpoint",
    "WarmupSchedule",
]
