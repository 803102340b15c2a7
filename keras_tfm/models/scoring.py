"""Scoring: the log-probabilities of given continuations, by one pass over each."""

from typing import NamedTuple

import numpy as np
from keras import ops, tree

from keras_tfm.models.length_batches import batches_by_length
from keras_tfm.models.prompts import align_prompts
from keras_tfm.models.token_ids import check_token_ids


class Scored(NamedTuple):
    """What a model says of given continuations.

    Args:
        log_probabilities: list of B numpy float32 arrays, one number for each token of a continuation.
        scores: numpy float32 `[B]`, their sums.
    """

    log_probabilities: list
    scores: np.ndarray


class Scores:
    """Mixin of models that decode: forced decoding."""

    def score(self, prompts, continuations, *, source=(), tokens_per_batch=4096, batch_size=None):
        """The log-probability of each token of given continuations, as `generate` would count it.

        Pairs of like length share a batch; each batch is one pass, compiled once for each shape.

        Args:
            prompts: B sequences of ids, none empty.
            continuations: B sequences of ids, with END where it is to count; they may be empty.
            source: tuple of arrays `[B, ...]` that `encode` takes, for models with an encoder.
            tokens_per_batch: rows times padded length of a batch are at most this: it bounds the memory. Default 4096.
            batch_size: the most rows of a batch; `None` leaves it to `tokens_per_batch`.

        Returns:
            `Scored`: the log-probabilities, a list of float32 arrays, and their sums, float32 `[B]`. Ids that are never
            generated, such as padding, have no probability: theirs is -inf, and the others sum to 1.

        Raises:
            ValueError: numbers of prompts and continuations differ; an empty prompt; ids outside the vocabulary;
                lengths beyond learned positions.

        Example:

        >>> from keras_tfm.models import CausalLM
        >>> model = CausalLM(20, num_layers=1, hidden_dim=16, intermediate_dim=32, num_heads=2, sequence_length=32)
        >>> log_probabilities, scores = model.score([[5, 6, 7], [8]], [[4, 3], [9]])
        >>> [len(each) for each in log_probabilities], scores.shape
        ([2, 1], (2,))
        """
        texts = self._check_pairs(prompts, continuations)
        program = self._kept("score", lambda compiled: compiled(self._log_probabilities))
        results = [None] * len(texts)
        for width, rows, num_real in batches_by_length(map(len, texts), tokens_per_batch, batch_size, multiple=16):
            aligned = align_prompts([texts[row] for row in rows], multiple=width)
            inputs = (aligned.tokens, aligned.starts, tree.map_structure(lambda x, rows=rows: x[rows], source))
            scores = ops.convert_to_numpy(program(*tree.map_structure(ops.convert_to_tensor, inputs)))
            for row, values in zip(rows[:num_real], scores, strict=False):
                results[row] = values[len(values) - len(continuations[row]) :]
        return Scored(results, np.array([each.sum() for each in results], "float32"))

    def _check_pairs(self, prompts, continuations):
        """The prompts with their continuations, as arrays."""
        prompts, continuations = ([np.asarray(row, "int32") for row in rows] for rows in (prompts, continuations))
        if len(prompts) != len(continuations):
            raise ValueError(
                "Each prompt must have one continuation. "
                f"Received: {len(prompts)} prompts, {len(continuations)} continuations"
            )
        if not all(map(len, prompts)):
            raise ValueError(f"No prompt may be empty. Received: prompts of lengths {[len(row) for row in prompts]}")
        texts = [np.concatenate(pair) for pair in zip(prompts, continuations, strict=True)]
        name, limit = next(reversed(self.token_id_limits.items()))
        for text in texts:
            check_token_ids(name, text, limit)
        longest = max(map(len, texts), default=0)
        if self.max_positions is not None and longest - 1 > self.max_positions:
            raise ValueError(
                f"A prompt and its continuation must be within the {self.max_positions} learned positions. "
                f"Received: {longest} tokens"
            )
        return texts

    def _log_probabilities(self, tokens, starts, source):
        """float32 `[B, P - 1]`, of all tokens but the first column's, after all that stands before them."""
        length, starts = tokens.shape[1] - 1, starts[:, None]
        columns = ops.arange(length, dtype="int32")
        cache = self.create_cache(ops.shape(tokens)[0], length, None)
        positions = ops.maximum(columns - starts, 0)
        memory = self.encode(source)
        logits, _ = self.extend(tokens[:, :-1], 0, positions, columns >= starts, cache, memory)
        logits = self._without_forbidden(ops.cast(logits, "float32"))
        chosen = ops.take_along_axis(logits, tokens[:, 1:, None], axis=-1)[..., 0]
        return chosen - ops.logsumexp(logits, axis=-1)
