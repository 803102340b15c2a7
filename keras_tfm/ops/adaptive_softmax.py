"""The tail of an adaptive softmax: log-probabilities of rare classes, for those tokens alone that need them."""

from keras import ops


def target_log_probabilities(logits, targets):
    """`log softmax(logits)[target]`, float32 `[M]`.

    Args:
        logits: float `[M, C]`.
        targets: int `[M]`; the value for one outside `[0, C)` is that of the nearest class.
    """
    logits = ops.cast(logits, "float32")
    chosen = ops.clip(targets, 0, logits.shape[-1] - 1)[:, None]
    return ops.take_along_axis(logits, chosen, axis=-1)[:, 0] - ops.logsumexp(logits, axis=-1)


def tail_log_probabilities(project, hidden, targets, is_here, capacity):
    """`log softmax(project(hidden))[target]` where `is_here`, and 0 elsewhere.

    Shapes are static: the tokens that are here are moved to the front and the first `capacity` are computed; should
    there be more, all are. So the result is exact whatever the capacity.

    Args:
        project: function of float `[M, H]` that returns logits `[M, C]`.
        hidden: float `[M, H]`.
        targets: int `[M]`, classes within the cluster.
        is_here: bool `[M]`, whether the token's class is in the cluster.
        capacity: how many tokens are computed, an int or int32 scalar; `None` computes all.

    Returns:
        float32 `[M]`.
    """

    def of_all():
        return ops.where(is_here, target_log_probabilities(project(hidden), targets), 0.0)

    if capacity is None:
        return of_all()
    order = ops.argsort(ops.cast(ops.logical_not(is_here), "int32"))[:capacity]

    def of_those_here():
        rows = ops.take(hidden, order, axis=0)
        found = target_log_probabilities(project(rows), ops.take(targets, order, axis=0))
        found = ops.where(ops.take(is_here, order, axis=0), found, 0.0)
        return ops.segment_sum(found, order, ops.shape(hidden)[0])

    return ops.cond(ops.sum(ops.cast(is_here, "int32")) <= capacity, of_those_here, of_all)
