"""Pictures of attention and of learning curves; they need matplotlib, the extra `vis`, only when one is drawn."""

from keras_tfm.visualization.attention_maps import plot_attention
from keras_tfm.visualization.attention_page import AttentionPage, attention_page
from keras_tfm.visualization.collect_attention import AttentionRecord, collect_attention
from keras_tfm.visualization.curves import plot_curves

__all__ = ["AttentionPage", "AttentionRecord", "attention_page", "collect_attention", "plot_attention", "plot_curves"]
