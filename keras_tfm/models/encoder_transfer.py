"""Pre-trained encoders: the weights of all but the head move from one model to another."""

from keras import ops

BODY = ("token_embedding", "character_embedding", "feature_projection", "position_embedding", "encoder")

# What leaves the weights and their meaning as they are.
_FREE = {
    *("num_classes", "mask_positions", "packed", "layer_loop", "rematerialization", "dtype", "name", "trainable"),
    *("dropout", "attention_dropout", "activation_dropout", "token_dropout", "unknown_id"),
}
_INPUTS_ONE_MAY_LACK = ("character_vocabulary_size", "feature_dim")


class TakesEncoder:
    """Mixin of models whose layers below the head have the names of `BODY`: takes their weights from another model."""

    def take_encoder(self, source):
        """Copies the weights of embeddings and encoder from a pre-trained model; the head stays as it is.

        Tasks, rates of dropout, dtype and the loop over blocks may differ. Embeddings of characters or of ready
        vectors that only one of the two models has are left alone.

        Args:
            source: a `MaskedLM`, `SequenceTagger` or `SequenceClassifier`. It keeps its weights.

        Returns:
            The model itself.

        Raises:
            ValueError: `source` is no such model, its sizes, vocabulary or positions are others, or its weights have
                other shapes (after quantization, say). Nothing was copied then.

        Reference:
            Devlin et al. 2019, "BERT", section 3 (the same parameters start every task).

        Example:

        >>> import keras
        >>> from keras_tfm.models import MaskedLM, SequenceTagger
        >>> sizes = dict(num_layers=1, hidden_dim=16, intermediate_dim=32, num_heads=2, position="rope")
        >>> pretrained = MaskedLM(30, **sizes)
        >>> tagger = SequenceTagger(5, vocabulary_size=30, **sizes).take_encoder(pretrained)
        >>> ours, theirs = (model.get_layer("token_embedding").weights[0] for model in (tagger, pretrained))
        >>> bool((keras.ops.convert_to_numpy(ours) == keras.ops.convert_to_numpy(theirs)).all())
        True
        """
        if not isinstance(source, TakesEncoder):
            raise ValueError(
                "`source` must be a model with an encoder, such as MaskedLM or SequenceTagger. "
                f"Received: source of type {type(source).__name__}"
            )
        _check_configs(self.get_config(), source.get_config())
        ours, theirs = ({layer.name: layer for layer in model.layers} for model in (self, source))
        pairs = [
            (weight, other)
            for name in BODY
            if name in ours and name in theirs
            for weight, other in _paired(name, ours[name].weights, theirs[name].weights)
        ]
        for weight, other in pairs:
            weight.assign(ops.copy(other.value))  # JAX would share the array, and training would delete it in both
        return self


def _check_configs(ours, theirs):
    """Raises where the same weights would mean something else."""
    free = set(_FREE)
    if "learned" not in (ours["position"], theirs["position"]):
        free.add("sequence_length")
    free |= {name for name in _INPUTS_ONE_MAY_LACK if None in (ours.get(name), theirs.get(name))}
    differing = [name for name in sorted(ours.keys() | theirs.keys()) if ours.get(name) != theirs.get(name)]
    differing = [name for name in differing if name not in free]
    if differing:
        told = "; ".join(f"{name}={ours.get(name)!r} here, {theirs.get(name)!r} in source" for name in differing)
        raise ValueError(f"`source` must have the vocabulary, positions and sizes of this model. Received: {told}")


def _paired(name, ours, theirs):
    shapes = [[tuple(weight.shape) for weight in weights] for weights in (ours, theirs)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"The weights of layer {name!r} must have the same shapes in `source`. "
            f"Received: {shapes[0]} here, {shapes[1]} in source"
        )
    return zip(ours, theirs, strict=True)
