"""What mixes the tokens in the blocks of a model's encoder: attention, or one of its rivals."""

from keras_tfm.layers import ConvolutionalMixer, RecurrentMixer

_MIXERS = {
    "lstm": lambda: RecurrentMixer("lstm"),
    "gru": lambda: RecurrentMixer("gru"),
    "conv": lambda: ConvolutionalMixer(kernel_size=3),
}
ENCODERS = ("attention", *_MIXERS)


def encoder_block(encoder, block, packed=False):
    """The arguments of a `TransformerEncoderStack` with what mixes its tokens.

    Args:
        encoder: `"attention"`; `"lstm"` or `"gru"`, both ways; `"conv"`, over three tokens.
        block: the stack's arguments with attention, a dict.
        packed: whether rows hold several sequences.

    Returns:
        A dict of arguments.

    Raises:
        ValueError: there is no such encoder; what only attention can do is asked of another.

    Example:

    >>> from keras_tfm.models.encoder_block import encoder_block
    >>> encoder_block("gru", {"num_heads": 4})["attention"].cell
    'gru'
    """
    if encoder not in ENCODERS:
        raise ValueError(f"`encoder` must be one of {list(ENCODERS)}. Received: encoder={encoder!r}")
    if encoder == "attention":
        return block
    of_attention = {name: block.get(name) for name in ("position", "num_key_value_heads", "attention_dropout")}
    for argument, value in {**of_attention, "packed": packed or None}.items():
        if value is not None:
            raise ValueError(
                f"`{argument}` of this kind is of attention: it needs `encoder='attention'`. "
                f"Received: encoder={encoder!r}, {argument}={value!r}"
            )
    if encoder != "conv" and block.get("layer_loop") == "scan":
        raise ValueError(
            "`layer_loop='scan'` needs an `encoder` whose blocks are no loops over the tokens themselves. "
            f"Received: encoder={encoder!r}, layer_loop='scan'"
        )
    return {**block, "num_heads": None, "attention": _MIXERS[encoder]()}
