"""Training: schedule, loss and metrics of tokens, checkpoint averaging, exact resume, a report of the throughput."""

from keras_tfm.training.checkpoint_averaging import CheckpointAveraging
from keras_tfm.training.losses import TokenCrossEntropy
from keras_tfm.training.metrics import Perplexity, TokenAccuracy
from keras_tfm.training.schedules import WarmupSchedule
from keras_tfm.training.throughput_report import ThroughputReport
from keras_tfm.training.token_counts import PaddingShare, TokenCount
from keras_tfm.training.training_checkpoint import TrainingCheckpoint

__all__ = [
    "CheckpointAveraging",
    "PaddingShare",
    "Perplexity",
    "ThroughputReport",
    "TokenAccuracy",
    "TokenCount",
    "TokenCrossEntropy",
    "TrainingCheckpoint",
    "WarmupSchedule",
]
