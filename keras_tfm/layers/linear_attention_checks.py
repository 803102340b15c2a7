"""Checks of what a call of linear attention is given, before any tensor maths."""


def refuse_pairs(**arguments):
    """Raises `ValueError` for an argument about pairs of queries and keys that is not `None`."""
    for argument, value in arguments.items():
        if value is not None:
            raise ValueError(
                f"`{argument}` must be None: linear attention computes no pairs of queries and keys. "
                f"Received: {argument} of shape {tuple(value.shape)}"
            )


def check_linear_call(query, value, is_causal, return_scores, segment_ids, cache):
    """Raises `ValueError` for arguments that exclude each other, and for too few keys."""
    for argument, is_given in (("return_attention_scores", return_scores), ("segment_ids", segment_ids is not None)):
        if is_given and cache is not None:
            raise ValueError(
                f"`{argument}` and `cache` exclude each other: a state keeps sums, and no keys. "
                f"Received: {argument} and a cache"
            )
    if value is None and cache is None:
        raise ValueError("`value` is needed without a `cache`. Received: value=None")
    if value is None or not is_causal:
        return
    lengths = query.shape[1], value.shape[1]
    if all(isinstance(length, int) for length in lengths) and lengths[0] > lengths[1]:
        raise ValueError(
            "`use_causal_mask` needs at least as many keys as queries. "
            f"Received: query.shape={tuple(query.shape)}, value.shape={tuple(value.shape)}"
        )
