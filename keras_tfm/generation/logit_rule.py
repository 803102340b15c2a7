"""LogitRule: what may be said next, as a layer around the step function."""

from keras import ops


class LogitRule:
    """Base of the rules on logits. A rule is a frozen dataclass of its settings; what it remembers is a value.

    A rule is asked once a step. It sees the token that was just read, and its memory goes with the hypotheses when a
    beam reorders them.
    """

    def start(self, tokens, max_length, prompt):
        """What the rule remembers before the first step: a pytree of tensors `[B, ...]`. Default: nothing.

        Args:
            tokens: int32 `[B]`, the start tokens, which the first step reads.
            max_length: L, how many tokens are decoded at most.
            prompt: int32 `[B, P]`, what was read before `tokens`, -1 where there is nothing; P may be 0.
        """
        return ()

    def __call__(self, logits, tokens, index, memory):
        """The logits that the rule leaves, and what it remembers.

        Args:
            logits: float32 `[R, V]`, finite or -inf.
            tokens: int32 `[R]`, the token at position `index - 1`; the start token at index 0.
            index: int32 scalar, the position that the logits score.
            memory: what `start` or the call before returned, for R rows.

        Returns:
            `(logits float32 [R, V], memory)`.
        """
        raise NotImplementedError


def with_rules(rules, step, state, tokens, max_length, prompt=None):
    """A step that applies `rules` to the logits of `step`, and the state it begins with."""
    rules = tuple(rules)
    if not rules:
        return step, state
    wrong = [rule for rule in rules if not isinstance(rule, LogitRule)]
    if wrong:
        raise ValueError(f"`rules` must be a sequence of `LogitRule`. Received: {wrong[0]!r}")
    prompt = ops.zeros((ops.shape(tokens)[0], 0), "int32") if prompt is None else ops.cast(prompt, "int32")
    memories = tuple(rule.start(tokens, max_length, prompt) for rule in rules)

    def ruled_step(tokens, index, state):
        state, memories = state
        logits, state = step(tokens, index, state)
        logits, following = ops.cast(logits, "float32"), []
        for rule, memory in zip(rules, memories, strict=True):
            logits, memory = rule(logits, tokens, index, memory)
            following.append(memory)
        return logits, (state, tuple(following))

    return ruled_step, (state, memories)
