"""What a model does with its masks, on which kernels its attention runs, and what its layers cost."""

from keras_tfm.inspection.attention_report import AttentionReport, attention_report
from keras_tfm.inspection.mask_report import MaskReport, mask_report
from keras_tfm.inspection.profile import ProfileReport, profile

__all__ = ["AttentionReport", "MaskReport", "ProfileReport", "attention_report", "mask_report", "profile"]
