"""Ids outside the vocabulary are found before training starts: on some backends they would become NaN in silence."""

import numpy as np


class CheckedTokenIds:
    """Mixin of models with token ids among their inputs: checks arrays given to `fit`, `evaluate` and `predict`.

    The model says by `token_id_limits` how many ids each named input has. Datasets and generators are not read ahead.
    """

    token_id_limits = {}

    def fit(self, x=None, *args, **kwargs):
        """Checks ids, then fits as `keras.Model` does."""
        self._check_token_ids(x)
        return super().fit(x, *args, **kwargs)

    def evaluate(self, x=None, *args, **kwargs):
        """Checks ids, then evaluates as `keras.Model` does."""
        self._check_token_ids(x)
        return super().evaluate(x, *args, **kwargs)

    def predict(self, x, *args, **kwargs):
        """Checks ids, then predicts as `keras.Model` does."""
        self._check_token_ids(x)
        return super().predict(x, *args, **kwargs)

    def _check_token_ids(self, x):
        if not isinstance(x, dict):
            x = {name: x for name in self.token_id_limits} if len(self.token_id_limits) == 1 else {}
        for name, limit in self.token_id_limits.items():
            ids = x.get(name)
            if isinstance(ids, (np.ndarray, list)):
                check_token_ids(name, np.asarray(ids), limit)


def check_token_ids(name, ids, vocabulary_size):
    """Raises `ValueError` if an integer array holds ids outside `[0, vocabulary_size)`, naming the first place."""
    wrong = (ids < 0) | (ids >= vocabulary_size)
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"Ids of `{name}` must be in [0, vocabulary_size). "
            f"Received: {name}{list(place)}={ids[place]}, vocabulary_size={vocabulary_size}"
        )
