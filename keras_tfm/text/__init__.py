"""Corpora, vocabularies, subword tokenizers and batches, in numpy."""

from keras_tfm.text.batches import BatchStatistics, SequenceBatches
from keras_tfm.text.checks import DataReport, Finding, check_labels, check_parallel, check_token_ids
from keras_tfm.text.classification_batches import ClassificationBatches
from keras_tfm.text.columns import TaggedSentence, read_columns, read_conllu
from keras_tfm.text.corpora import CorpusError, read_lines, read_pairs, read_parallel
from keras_tfm.text.masked_language import TokenMasking
from keras_tfm.text.masked_language_batches import MaskedLanguageBatches
from keras_tfm.text.packed_batches import PackedBatches
from keras_tfm.text.packed_translation_batches import PackedTranslationBatches
from keras_tfm.text.packing import pack
from keras_tfm.text.resumable import ResumableDataset
from keras_tfm.text.subword import SubwordTokenizer
from keras_tfm.text.tagging_batches import TaggingBatches
from keras_tfm.text.translation_batches import TranslationBatches
from keras_tfm.text.vocabulary import Vocabulary
from keras_tfm.text.word2vec_batches import Word2VecBatches

__all__ = [
    "BatchStatistics",
    "ClassificationBatches",
    "CorpusError",
    "DataReport",
    "Finding",
    "MaskedLanguageBatches",
    "PackedBatches",
    "PackedTranslationBatches",
    "ResumableDataset",
    "SequenceBatches",
    "SubwordTokenizer",
    "TaggedSentence",
    "TaggingBatches",
    "TokenMasking",
    "TranslationBatches",
    "Vocabulary",
    "Word2VecBatches",
    "check_labels",
    "check_parallel",
    "check_token_ids",
    "pack",
    "read_columns",
    "read_conllu",
    "read_lines",
    "read_pairs",
    "read_parallel",
]
