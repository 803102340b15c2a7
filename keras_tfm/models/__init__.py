"""Functional models out of the layers."""

from keras_tfm.models.cached_model import CachedModel
from keras_tfm.models.contrasting import contrast
from keras_tfm.models.conversation import Conversation
from keras_tfm.models.decoder import CausalLM
from keras_tfm.models.encoder import SequenceClassifier, SequenceTagger
from keras_tfm.models.masked_seq2seq import MaskedSeq2Seq
from keras_tfm.models.masked_targets import mask_targets
from keras_tfm.models.seq2seq import Seq2SeqTransformer
from keras_tfm.models.speculation import speculate
from keras_tfm.models.streaming import TextStreamer, stream_text

__all__ = [
    "CachedModel",
    "CausalLM",
    "Conversation",
    "MaskedSeq2Seq",
    "Seq2SeqTransformer",
    "SequenceClassifier",
    "SequenceTagger",
    "TextStreamer",
    "contrast",
    "mask_targets",
    "speculate",
    "stream_text",
]
