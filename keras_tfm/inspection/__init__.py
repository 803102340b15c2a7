"""What a model does with its masks, and on which kernels its attention runs."""

from keras_tfm.inspection.attention_report import AttentionReport, attention_report
from keras_tfm.inspection.mask_report import MaskReport, mask_report

__all__ = ["AttentionReport", "MaskReport", "attention_report", "mask_report"]
