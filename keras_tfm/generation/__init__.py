"""Decoding strategies and logit rules over a step function: they know no layer and no model."""

from keras_tfm.generation.beam import Beam, beam_search
from keras_tfm.generation.constrained_beam import ConstrainedBeam
from keras_tfm.generation.contrastive import Contrastive, contrastive_search
from keras_tfm.generation.coverage import CoveragePenalty
from keras_tfm.generation.diverse_beam import DiverseBeam
from keras_tfm.generation.drafter import Drafter, DraftModel
from keras_tfm.generation.greedy import Greedy, greedy_search
from keras_tfm.generation.length_rules import Budget, MinimumLength
from keras_tfm.generation.logit_rule import LogitRule
from keras_tfm.generation.logit_rules import AllowedTokens, CallableRule, ForbiddenTokens, ForcedTokens, LogitBias
from keras_tfm.generation.mask_predict import mask_predict
from keras_tfm.generation.minimum_bayes_risk import minimum_bayes_risk, ngram_f_score
from keras_tfm.generation.mirostat import Mirostat
from keras_tfm.generation.ngram_rules import NoRepeatNgram
from keras_tfm.generation.penalties import FrequencyPenalty, RepetitionPenalty
from keras_tfm.generation.prompt_lookup import PromptLookup
from keras_tfm.generation.sampling import Sampling, sample_search
from keras_tfm.generation.sampling_filters import MinP, Temperature, TopK, TopP, Typical
from keras_tfm.generation.speculative import Speculative, speculative_search
from keras_tfm.generation.state_rows import Unchanging
from keras_tfm.generation.stop_sequences import StopSequences
from keras_tfm.generation.strategies import get_strategy
from keras_tfm.generation.strategy import Limits, Strategy, search
from keras_tfm.generation.streamed_search import StreamedSearch, stream_search
from keras_tfm.generation.token_automaton import TokenAutomaton

__all__ = [
    "AllowedTokens",
    "Beam",
    "Budget",
    "CallableRule",
    "ConstrainedBeam",
    "Contrastive",
    "CoveragePenalty",
    "DiverseBeam",
    "DraftModel",
    "Drafter",
    "ForbiddenTokens",
    "ForcedTokens",
    "FrequencyPenalty",
    "Greedy",
    "Limits",
    "LogitBias",
    "LogitRule",
    "MinP",
    "MinimumLength",
    "Mirostat",
    "NoRepeatNgram",
    "PromptLookup",
    "RepetitionPenalty",
    "Sampling",
    "Speculative",
    "StopSequences",
    "Strategy",
    "StreamedSearch",
    "Temperature",
    "TokenAutomaton",
    "TopK",
    "TopP",
    "Typical",
    "Unchanging",
    "beam_search",
    "contrastive_search",
    "get_strategy",
    "greedy_search",
    "mask_predict",
    "minimum_bayes_risk",
    "ngram_f_score",
    "sample_search",
    "search",
    "speculative_search",
    "stream_search",
]
