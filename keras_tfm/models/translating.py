"""Translating: strings in, strings out, in batches of like length."""

import dataclasses
import math
from typing import NamedTuple

import keras
import numpy as np

from keras_tfm.generation import get_strategy
from keras_tfm.models.length_batches import batches_by_length


class ScoredText(NamedTuple):
    """A text and the sum of the log-probabilities of its tokens, END's included.

    Args:
        text: string.
        score: float.
    """

    text: str
    score: float


class Translates:
    """Mixin of models with an encoder: translation of strings."""

    def translate(
        self,
        texts,
        source_tokenizer,
        target_tokenizer=None,
        *,
        max_length=None,
        strategy="greedy",
        num_best=None,
        return_scores=False,
        tokens_per_batch=4096,
        batch_size=None,
        progress=False,
        rules=(),
        seed=0,
        **settings,
    ):
        """Translates strings; those of like length share a batch, of few shapes, so that few programs are compiled.

        Args:
            texts: sequence of strings. A blank one stays blank.
            source_tokenizer, target_tokenizer: objects with `encode_batch(texts)`, which returns lists of ids, and
                `decode(ids)`; without the second, the first does both.
            max_length: the most tokens of a translation, END included. `None` means 2 w + 16, where w is the length of
                the source, padded to 8, 16, 24, 32, 48, 64, 96, ... tokens.
            strategy, rules, **settings: as `generate` has them.
            num_best: how many translations of each text to return, of a beam or of samples; `None` returns the best.
            return_scores: whether to return `ScoredText(text, score)` instead of strings.
            tokens_per_batch: rows times padded length of a batch of sources are at most this: it bounds the memory.
            batch_size: the most rows of a batch; `None` leaves it to `tokens_per_batch`.
            progress: whether to show a progress bar.
            seed: int; text number i draws by `seed + i`, in whatever batch it is.

        Returns:
            list of strings in the order of `texts`; with `num_best`, of lists of strings, the best first (samples in
            the order of their draws).

        Raises:
            ValueError: before anything is computed: `texts` are no strings; a source is longer than learned positions;
                `num_best` of a strategy with one result; bad settings.

        Example:

        >>> from keras_tfm.models import Seq2SeqTransformer
        >>> class Letters:
        ...     def encode_batch(self, texts):
        ...         return [[3 + ord(letter) % 16 for letter in text] for text in texts]
        ...     def decode(self, ids):
        ...         return "".join(chr(97 + index) for index in ids)
        >>> model = Seq2SeqTransformer(20, num_layers=1, hidden_dim=16, intermediate_dim=32, num_heads=2)
        >>> translations = model.translate(["so it goes", ""], Letters(), strategy="beam", num_beams=2)
        >>> len(translations), translations[1]
        (2, '')
        """
        sources = _encode(texts, source_tokenizer)
        _check_lengths(sources, self.max_positions)
        limit = self.max_positions or math.inf
        options = dict(strategy=_choose(strategy, settings, num_best), rules=tuple(rules))

        def search(width, rows):
            width = min(width, limit)
            padded = np.array([sources[row] + [0] * (width - len(sources[row])) for row in rows], "int32")
            length = min(2 * width + 16, limit) if max_length is None else max_length
            return self.generate(padded, max_length=length, seed=(seed + rows).astype("int32"), **options)

        decode = (target_tokenizer or source_tokenizer).decode
        ends = _ids(self.end_id)
        found = _in_batches(sources, search, tokens_per_batch, batch_size, 8, progress)
        return [_results(each, lambda ids: decode(_trim(ids, ends)), num_best, return_scores) for each in found]


class Completes:
    """Mixin of language models: continuation of strings."""

    def complete(
        self,
        texts,
        tokenizer,
        *,
        max_length,
        start_id=None,
        strategy="greedy",
        num_best=None,
        return_scores=False,
        tokens_per_batch=4096,
        batch_size=None,
        progress=False,
        rules=(),
        seed=0,
        **settings,
    ):
        """Continues strings; those of like length share a batch, of few shapes, so that few programs are compiled.

        Args:
            texts: sequence of strings.
            tokenizer: an object with `encode_batch(texts)`, which returns lists of ids, and `decode(ids)`.
            max_length: the most tokens of a continuation, END included.
            start_id: id that begins every text, or `None`. Without it no text may be empty.
            strategy, num_best, return_scores, tokens_per_batch, batch_size, progress, rules, seed, **settings: as
                `Seq2SeqTransformer.translate` has them.

        Returns:
            list of strings in the order of `texts`, what follows each; with `num_best`, of lists of strings.

        Raises:
            ValueError: before anything is computed: `texts` are no strings; an empty text without `start_id`; texts
                longer than learned positions; bad settings.

        Example:

        >>> from keras_tfm.models import CausalLM
        >>> class Letters:
        ...     def encode_batch(self, texts):
        ...         return [[ord(letter) - 97 for letter in text] for text in texts]
        ...     def decode(self, ids):
        ...         return "".join(chr(97 + index) for index in ids)
        >>> model = CausalLM(26, num_layers=1, hidden_dim=16, intermediate_dim=32, num_heads=2, sequence_length=32)
        >>> [len(text) for text in model.complete(["so", "it"], Letters(), max_length=5)]
        [5, 5]
        """
        prompts = [_ids(start_id) + ids for ids in _encode(texts, tokenizer)]
        if not all(prompts):
            raise ValueError(
                "An empty text has nothing to go on from: `start_id` begins every text. "
                f"Received: start_id={start_id}, texts[{prompts.index([])}]={list(texts)[prompts.index([])]!r}"
            )
        _check_lengths(prompts, None if self.max_positions is None else self.max_positions + 1 - max_length)
        options = dict(strategy=_choose(strategy, settings, num_best), rules=tuple(rules), max_length=max_length)

        def search(width, rows):
            return self.generate([prompts[row] for row in rows], seed=(seed + rows).astype("int32"), **options)

        def following(prompt):
            before = tokenizer.decode(prompt)
            return lambda ids: tokenizer.decode(prompt + _trim(ids, ends)).removeprefix(before)

        ends = _ids(self.end_id)
        found = _in_batches(prompts, search, tokens_per_batch, batch_size, 16, progress)
        pairs = zip(prompts, found, strict=True)
        return [
            _results(each, following(prompt[len(_ids(start_id)) :]), num_best, return_scores) for prompt, each in pairs
        ]


def _encode(texts, tokenizer):
    """The ids of each text; none for a blank one."""
    if isinstance(texts, (str, bytes)):
        raise ValueError(f"`texts` must be a sequence of strings, not one of them. Received: texts={texts!r}")
    texts = list(texts)
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"`texts` must be strings. Received: texts[{place}]={text!r}")
    places = [place for place, text in enumerate(texts) if text.strip()]
    rows = [[] for _ in texts]
    encoded = tokenizer.encode_batch([texts[place] for place in places]) if places else ()
    for place, ids in zip(places, encoded, strict=True):
        rows[place] = [int(index) for index in ids]
    return rows


def _check_lengths(rows, limit):
    for place, row in enumerate(rows):
        if limit is not None and len(row) > limit:
            raise ValueError(
                f"A text may have at most {limit} tokens: more do not fit the learned positions. "
                f"Received: texts[{place}] of {len(row)} tokens"
            )


def _choose(strategy, settings, num_best):
    """The strategy with as many results as are wanted."""
    strategy = get_strategy(strategy, **settings)
    if hasattr(strategy, "num_results"):
        return dataclasses.replace(strategy, num_results=num_best or 1)
    if num_best is None:
        return strategy
    if not hasattr(strategy, "num_samples"):
        raise ValueError(
            "`num_best` needs a strategy with several results, such as a beam or sampling. "
            f"Received: num_best={num_best}, strategy={strategy!r}"
        )
    return dataclasses.replace(strategy, num_samples=num_best)


def _in_batches(rows, search, tokens_per_batch, batch_size, multiple, progress):
    """For each row `(sequences, scores, lengths)` as `search(width, rows)` found them; `None` for an empty row."""
    found, places = [None] * len(rows), np.array([place for place, row in enumerate(rows) if row], "int64")
    bar = keras.utils.Progbar(len(places), unit_name="text") if progress and len(places) else None
    lengths = [len(rows[place]) for place in places]
    for width, members, num_real in batches_by_length(lengths, tokens_per_batch, batch_size, multiple):
        results = search(width, places[members])
        for member, *each in zip(members[:num_real], *results, strict=False):
            found[places[member]] = each
        if bar is not None:
            bar.add(num_real)
    return found


def _results(found, decode, num_best, return_scores):
    """One text, or `num_best` of them."""
    if found is None:
        texts = [ScoredText("", 0.0)] * (num_best or 1)
    else:
        sequences, scores, lengths = found
        sequences, scores, lengths = np.atleast_2d(sequences), np.atleast_1d(scores), np.atleast_1d(lengths)
        rows = zip(sequences, scores, lengths, strict=True)
        texts = [ScoredText(decode(ids[:length].tolist()), float(score)) for ids, score, length in rows]
    texts = texts if return_scores else [each.text for each in texts]
    return texts[0] if num_best is None else texts


def _ids(ids):
    """A list of ids from an id, several, or `None`."""
    return [] if ids is None else [ids] if isinstance(ids, int) else list(ids)


def _trim(ids, ends):
    """The ids without the END that they may have."""
    return ids[:-1] if ids and ids[-1] in ends else ids
