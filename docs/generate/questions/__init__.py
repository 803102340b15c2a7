"""The experiments of the page of nineteen questions, one file each."""

QUESTIONS = (
    "several_heads",
    "query_and_key_matrices",
    "additive_score",
    "scaling",
    "padding_mask",
    "narrow_heads",
    "encoder_block",
    "embedding_scale",
    "positions",
    "other_positions",
    "residuals",
    "layer_norm",
    "batch_norm",
    "feed_forward",
    "cross_attention",
    "sequence_mask",
    "parallel",
    "warmup_and_dropout",
    "no_leak",
)
