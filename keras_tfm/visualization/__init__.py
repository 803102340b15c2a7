"""What a model attends to and what its outputs come from; to draw it needs matplotlib, the extra `vis`."""

from keras_tfm.visualization.attention_maps import plot_attention
from keras_tfm.visualization.attention_page import AttentionPage, attention_page
from keras_tfm.visualization.attention_rollout import attention_flow, attention_rollout
from keras_tfm.visualization.collect_attention import AttentionRecord, collect_attention
from keras_tfm.visualization.curves import plot_curves
from keras_tfm.visualization.embedded_model import EmbeddedModel
from keras_tfm.visualization.embedding_projection import plot_embeddings, project_embeddings
from keras_tfm.visualization.head_grid import plot_heads
from keras_tfm.visualization.mask_pictures import plot_mask
from keras_tfm.visualization.position_pictures import plot_positions
from keras_tfm.visualization.saliency import (
    Saliency,
    gradient_saliency,
    gradient_times_input,
    integrated_gradients,
    smooth_grad,
)
from keras_tfm.visualization.saliency_pictures import plot_saliency
from keras_tfm.visualization.tf_keras_vis_model import VisModel, tf_keras_vis_model

__all__ = [
    "AttentionPage",
    "AttentionRecord",
    "EmbeddedModel",
    "Saliency",
    "VisModel",
    "attention_flow",
    "attention_page",
    "attention_rollout",
    "collect_attention",
    "gradient_saliency",
    "gradient_times_input",
    "integrated_gradients",
    "plot_attention",
    "plot_curves",
    "plot_embeddings",
    "plot_heads",
    "plot_mask",
    "plot_positions",
    "plot_saliency",
    "project_embeddings",
    "smooth_grad",
    "tf_keras_vis_model",
]
