"""Functional models out of the layers."""

import importlib

from keras_tfm.models.decoder import CausalLM
from keras_tfm.models.encoder import SequenceClassifier, SequenceTagger
from keras_tfm.models.masked_lm import MaskedLM
from keras_tfm.models.masked_seq2seq import MaskedSeq2Seq
from keras_tfm.models.masked_targets import mask_targets
from keras_tfm.models.seq2seq import Seq2SeqTransformer
from keras_tfm.models.streaming import TextStreamer, stream_text
from keras_tfm.models.word2vec import Word2Vec

__all__ = [
    "CachedModel",
    "CausalLM",
    "Conversation",
    "MaskedLM",
    "MaskedSeq2Seq",
    "Seq2SeqTransformer",
    "SequenceClassifier",
    "SequenceTagger",
    "TextStreamer",
    "Word2Vec",
    "contrast",
    "mask_targets",
    "speculate",
    "stream_text",
]

# Loaded at first use: no saved file names them.
_MODULES = {
    "CachedModel": "cached_model",
    "Conversation": "conversation",
    "contrast": "contrasting",
    "speculate": "speculation",
}


def __getattr__(name):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    return globals()[name]
