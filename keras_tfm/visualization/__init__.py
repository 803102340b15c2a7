"""Pictures of attention and of learning curves; they need matplotlib, the extra `vis`, only when one is drawn."""

from keras_tfm.visualization.attention_maps import plot_attention
from keras_tfm.visualization.collect_attention import AttentionRecord, collect_attention
from keras_tfm.visualization.curves import plot_curves

__all__ = ["AttentionRecord", "collect_attention", "plot_attention", "plot_curves"]
