"""Layers, one public class a file."""

from keras_tfm.layers.adaptive_softmax import AdaptiveSoftmax
from keras_tfm.layers.additive_attention import AdditiveAttention
from keras_tfm.layers.additive_score import AdditiveScore
from keras_tfm.layers.alibi import Alibi
from keras_tfm.layers.attach_mask import AttachMask
from keras_tfm.layers.attention_position import AttentionPosition
from keras_tfm.layers.attention_score import AttentionScore
from keras_tfm.layers.character_embedding import CharacterEmbedding
from keras_tfm.layers.clipped_relative_position import ClippedRelativePosition
from keras_tfm.layers.concat_score import ConcatScore
from keras_tfm.layers.convolutional_encoder import ConvolutionalEncoder
from keras_tfm.layers.convolutional_mixer import ConvolutionalMixer
from keras_tfm.layers.decoder_cache import DecoderCache
from keras_tfm.layers.deep_norm import DeepNorm
from keras_tfm.layers.disentangled_position import DisentangledPosition
from keras_tfm.layers.dropout import Dropout
from keras_tfm.layers.feed_forward import FeedForward
from keras_tfm.layers.gated_feed_forward import GatedFeedForward
from keras_tfm.layers.general_score import GeneralScore
from keras_tfm.layers.layer_scale import LayerScale
from keras_tfm.layers.linear_attention import LinearAttention
from keras_tfm.layers.masked_lm_head import MaskedLMHead
from keras_tfm.layers.masked_mean import MaskedMean
from keras_tfm.layers.mixture_of_experts import MixtureOfExperts
from keras_tfm.layers.multi_head_attention import MultiHeadAttention
from keras_tfm.layers.multi_head_latent_attention import MultiHeadLatentAttention
from keras_tfm.layers.multi_source_attention import MultiSourceAttention
from keras_tfm.layers.pointer_head import PointerHead
from keras_tfm.layers.position_embedding import PositionEmbedding
from keras_tfm.layers.positional_embedding import PositionalEmbedding
from keras_tfm.layers.quadratic_position import QuadraticPosition
from keras_tfm.layers.re_zero import ReZero
from keras_tfm.layers.recurrent_encoder import RecurrentEncoder
from keras_tfm.layers.recurrent_mixer import RecurrentMixer
from keras_tfm.layers.registry import get
from keras_tfm.layers.relative_position_bias import RelativePositionBias
from keras_tfm.layers.residual import Residual
from keras_tfm.layers.rotary_embedding import RotaryEmbedding
from keras_tfm.layers.sine_position_encoding import SinePositionEncoding
from keras_tfm.layers.stochastic_depth import StochasticDepth
from keras_tfm.layers.talking_heads import TalkingHeads
from keras_tfm.layers.tied_output_cross_entropy import TiedOutputCrossEntropy
from keras_tfm.layers.token_and_position_embedding import TokenAndPositionEmbedding
from keras_tfm.layers.token_dropout import TokenDropout
from keras_tfm.layers.transformer_decoder import TransformerDecoder
from keras_tfm.layers.transformer_decoder_stack import TransformerDecoderStack
from keras_tfm.layers.transformer_encoder import TransformerEncoder
from keras_tfm.layers.transformer_encoder_stack import TransformerEncoderStack
from keras_tfm.layers.transformer_xl_position import TransformerXLPosition

__all__ = [
    "AdaptiveSoftmax",
    "AdditiveAttention",
    "AdditiveScore",
    "Alibi",
    "AttachMask",
    "AttentionPosition",
    "AttentionScore",
    "CharacterEmbedding",
    "ClippedRelativePosition",
    "ConcatScore",
    "ConvolutionalEncoder",
    "ConvolutionalMixer",
    "DecoderCache",
    "DeepNorm",
    "DisentangledPosition",
    "Dropout",
    "FeedForward",
    "GatedFeedForward",
    "GeneralScore",
    "LayerScale",
    "LinearAttention",
    "MaskedLMHead",
    "MaskedMean",
    "MixtureOfExperts",
    "MultiHeadAttention",
    "MultiHeadLatentAttention",
    "MultiSourceAttention",
    "PointerHead",
    "PositionEmbedding",
    "PositionalEmbedding",
    "QuadraticPosition",
    "ReZero",
    "RecurrentEncoder",
    "RecurrentMixer",
    "RelativePositionBias",
    "Residual",
    "RotaryEmbedding",
    "SinePositionEncoding",
    "StochasticDepth",
    "TalkingHeads",
    "TiedOutputCrossEntropy",
    "TokenAndPositionEmbedding",
    "TokenDropout",
    "TransformerDecoder",
    "TransformerDecoderStack",
    "TransformerEncoder",
    "TransformerEncoderStack",
    "TransformerXLPosition",
    "get",
]
