"""Layers, one public class a file."""

from keras_tfm.layers.attach_mask import AttachMask
from keras_tfm.layers.attention_position import AttentionPosition
from keras_tfm.layers.character_embedding import CharacterEmbedding
from keras_tfm.layers.decoder_cache import DecoderCache
from keras_tfm.layers.feed_forward import FeedForward
from keras_tfm.layers.masked_mean import MaskedMean
from keras_tfm.layers.multi_head_attention import MultiHeadAttention
from keras_tfm.layers.position_embedding import PositionEmbedding
from keras_tfm.layers.positional_embedding import PositionalEmbedding
from keras_tfm.layers.rotary_embedding import RotaryEmbedding
from keras_tfm.layers.sine_position_encoding import SinePositionEncoding
from keras_tfm.layers.token_and_position_embedding import TokenAndPositionEmbedding
from keras_tfm.layers.token_dropout import TokenDropout
from keras_tfm.layers.transformer_decoder import TransformerDecoder
from keras_tfm.layers.transformer_decoder_stack import TransformerDecoderStack
from keras_tfm.layers.transformer_encoder import TransformerEncoder
from keras_tfm.layers.transformer_encoder_stack import TransformerEncoderStack

__all__ = [
    "AttachMask",
    "AttentionPosition",
    "CharacterEmbedding",
    "DecoderCache",
    "FeedForward",
    "MaskedMean",
    "MultiHeadAttention",
    "PositionEmbedding",
    "PositionalEmbedding",
    "RotaryEmbedding",
    "SinePositionEncoding",
    "TokenAndPositionEmbedding",
    "TokenDropout",
    "TransformerDecoder",
    "TransformerDecoderStack",
    "TransformerEncoder",
    "TransformerEncoderStack",
]
