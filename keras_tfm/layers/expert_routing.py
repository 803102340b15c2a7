"""Which expert computes which token, and the losses that keep the choice balanced; all in float32."""

from keras import ops


def choose_experts(logits, top_k, is_renormalized):
    """The weight of each expert for each token: its probability if it is among the k most probable, else 0.

    Args:
        logits: float32 `[..., E]`.
        top_k: k, how many experts a token has.
        is_renormalized: whether a token's weights sum to 1; that is the softmax over its k logits.

    Returns:
        `(weights, probabilities, is_chosen)`, each float32 `[..., E]`.
    """
    probabilities = ops.softmax(logits, axis=-1)
    _, experts = ops.top_k(logits, top_k)
    is_chosen = ops.sum(ops.one_hot(experts, logits.shape[-1], dtype="float32"), axis=-2)
    weights = probabilities * is_chosen
    if is_renormalized:
        weights = weights / ops.sum(weights, axis=-1, keepdims=True)
    return weights, probabilities, is_chosen


def balance_loss(probabilities, is_chosen, is_real):
    """`E · Σₑ fₑ Pₑ`: fₑ the share of choices that went to expert e, Pₑ its mean probability; 1 if all are equal.

    Args:
        probabilities, is_chosen: float32 `[tokens, E]`.
        is_real: float32 `[tokens, 1]`, 0 at padding.

    Reference:
        Fedus et al. 2021, Switch Transformers, equations 4 to 6; for k choices a token their shares.
    """
    num_real = ops.maximum(ops.sum(is_real), 1.0)
    chosen = is_chosen * is_real
    shares = ops.sum(chosen, axis=0) / ops.maximum(ops.sum(chosen), 1.0)
    means = ops.sum(probabilities * is_real, axis=0) / num_real
    return probabilities.shape[-1] * ops.sum(shares * means)


def router_z_loss(logits, is_real):
    """The mean square of the logits' log-sum-exp, which keeps them small.

    Args:
        logits: float32 `[tokens, E]`.
        is_real: float32 `[tokens, 1]`, 0 at padding.

    Reference:
        Zoph et al. 2022, ST-MoE, equation 5.
    """
    squares = ops.square(ops.logsumexp(logits, axis=-1, keepdims=True))
    return ops.sum(squares * is_real) / ops.maximum(ops.sum(is_real), 1.0)


def first_tokens(is_chosen, capacity):
    """The tokens that each expert has room for: the first that chose it.

    Args:
        is_chosen: float32 `[tokens, E]`.
        capacity: C, at most the number of tokens.

    Returns:
        `(int32 [E, C], float32 [E, C])`: the tokens, and 1 where there is one.
    """
    num_tokens = ops.shape(is_chosen)[0]
    earliness = ops.cast(num_tokens - ops.arange(num_tokens, dtype="int32"), "float32")
    order, tokens = ops.top_k(ops.transpose(is_chosen * earliness[:, None]), capacity)
    return ops.cast(tokens, "int32"), ops.cast(order > 0, "float32")
