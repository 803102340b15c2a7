"""Functional models out of the layers."""

from keras_tfm.models.cached_model import CachedModel
from keras_tfm.models.decoder import CausalLM
from keras_tfm.models.encoder import SequenceClassifier, SequenceTagger
from keras_tfm.models.seq2seq import Seq2SeqTransformer

__all__ = ["CachedModel", "CausalLM", "Seq2SeqTransformer", "SequenceClassifier", "SequenceTagger"]
