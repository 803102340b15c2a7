"""What a model does with its masks."""

from keras_tfm.inspection.mask_report import MaskReport, mask_report

__all__ = ["MaskReport", "mask_report"]
