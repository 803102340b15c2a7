"""The encoder that fills in what was hidden: masked language modelling (the BERT branch)."""

import keras

from keras_tfm.layers import MaskedLMHead
from keras_tfm.models.encoder import EncoderModel

_NO_ARGUMENTS = ("num_classes", "character_vocabulary_size", "feature_dim")


@keras.saving.register_keras_serializable(package="keras_tfm")
class MaskedLM(EncoderModel):
    """A Transformer encoder that says which token stood at each place, from all the others; a Functional model.

    It learns from text alone, with the batches of `keras_tfm.text.MaskedLanguageBatches`; then `take_encoder` gives
    its embeddings and its encoder to a `SequenceTagger` or a `SequenceClassifier`.

    Args:
        vocabulary_size: V, the id that hides tokens included.
        num_layers, hidden_dim, intermediate_dim, num_heads: L, D, F, N.
        mask_positions: whether the model has an input `"mask_positions"` and predicts these places alone: the
            projection to V words, most of the work in a small model, is then done for some 15 % of the tokens. The
            weights are the same. Defaults to `False`.
        **options: what `SequenceTagger` takes besides, with the same defaults (`activation="gelu"` and
            `position="learned"` are BERT's), but for characters and ready vectors, which would tell what is hidden.

    Call arguments:
        inputs: int `[B, T]`, 0 for padding; with `mask_positions` a dict of `"token_ids"` and `"mask_positions"` int
            `[B, P]` in `[0, T)`; if `packed` also `"segment_ids"` and `"positions"`.

    Returns:
        logits `[B, T, V]`; with `mask_positions` `[B, P, V]`. The projection is the matrix of the embedding.

    Masking:
        No token sees padding. The logits carry the mask of the tokens they speak of.

    Raises:
        ValueError: sizes that do not fit, characters or vectors as inputs.

    Reference:
        Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers", section 3.1.

    Example:

    >>> import numpy as np
    >>> sizes = dict(num_layers=1, hidden_dim=16, intermediate_dim=32, num_heads=2)
    >>> ids = np.array([[4, 5, 29, 0]])
    >>> tuple(MaskedLM(30, **sizes)(ids).shape)
    (1, 4, 30)
    >>> inputs = {"token_ids": ids, "mask_positions": np.array([[2]])}
    >>> tuple(MaskedLM(30, mask_positions=True, **sizes)(inputs).shape)
    (1, 1, 30)
    """

    def __init__(
        self,
        vocabulary_size,
        num_layers=6,
        hidden_dim=512,
        intermediate_dim=2048,
        num_heads=8,
        *,
        mask_positions=False,
        **options,
    ):
        for name in _NO_ARGUMENTS:
            if options.get(name) is not None:
                raise ValueError(
                    f"`{name}` is no argument of MaskedLM, which reads and predicts tokens alone. "
                    f"Received: {name}={options[name]!r}"
                )
        places = {"mask_positions": keras.Input((None,), dtype="int32", name="mask_positions")}
        super().__init__(
            vocabulary_size,
            num_layers,
            hidden_dim,
            intermediate_dim,
            num_heads,
            vocabulary_size=vocabulary_size,
            head_inputs=places if mask_positions else {},
            **options,
        )
        self._config["mask_positions"] = bool(mask_positions)

    def head(self, encoded, num_classes, dtype, token_embedding, mask_positions=None):
        """A dense layer, a normalization and the embedding's matrix, on every token or on those asked for."""
        head = MaskedLMHead(
            token_embedding=token_embedding,
            intermediate_activation="gelu",
            dtype=dtype,
            name="masked_lm_head",
        )
        return head(encoded, mask_positions)

    def get_config(self):
        """The constructor's arguments."""
        return {name: value for name, value in super().get_config().items() if name not in _NO_ARGUMENTS}
