"""The promises of the simple rules: plain functions of one row and the processors of transformers say the same."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_tfm.backend import compile_loop
from keras_tfm.generation.greedy import greedy_search
from keras_tfm.generation.length_rules import Budget, MinimumLength
from keras_tfm.generation.logit_rules import AllowedTokens, CallableRule, ForbiddenTokens, ForcedTokens, LogitBias
from keras_tfm.generation.ngram_rules import NoRepeatNgram
from keras_tfm.generation.penalties import FrequencyPenalty, RepetitionPenalty
from keras_tfm.generation.sampling import sample_search
from keras_tfm.generation.stop_sequences import StopSequences
from keras_tfm.generation.token_automaton import TokenAutomaton
from tests.generation.prefix_model import PrefixModel, run
from tests.generation.rule_oracle import (
    SIZE,
    check_against_transformers,
    check_along_tokens,
    check_in_beams,
    compiled,
    forbid,
    force,
    ruled_beam_search,
    trace,
    transformers_processors,
)


def not_as_before_last(logits, tokens, index):
    """Forbids the token before the newest, and token 0 from index 3 on."""
    logits = ops.where(tokens[:, -2:-1] == ops.arange(SIZE, dtype="int32"), -np.inf, logits)
    return ops.where(ops.logical_and(index >= 3, np.arange(SIZE) == 0), -np.inf, logits)


def not_as_before_last_oracle(logits, prompt, start, decoded):
    before = [*prompt, start, *decoded][-2:-1]
    return forbid(logits, before + [0] * (len(decoded) >= 3))


def biased(logits, *_):
    return logits + np.array([0, 0, 1.5, 0, -np.inf, -2, 0])


RULES = {
    "forbidden": (ForbiddenTokens([2, 4]), lambda logits, *_: forbid(logits, [2, 4])),
    "no forbidden": (ForbiddenTokens(()), lambda logits, *_: logits),
    "allowed": (AllowedTokens({1, 2, 3}), lambda logits, *_: forbid(logits, [0, 4, 5, 6])),
    "forced": (
        ForcedTokens({0: 3, 2: 5}),
        lambda logits, prompt, start, decoded: (
            force(logits, {0: 3, 2: 5}[len(decoded)]) if len(decoded) in (0, 2) else logits
        ),
    ),
    "bias": (LogitBias({2: 1.5, 4: -np.inf, 5: -2}), biased),
    "callable": (CallableRule(not_as_before_last), not_as_before_last_oracle),
}
each_rule = pytest.mark.parametrize(("rule", "oracle"), RULES.values(), ids=RULES)


@each_rule
def test_it_is_the_plain_function_along_given_tokens(rule, oracle):
    check_along_tokens(rule, oracle)


@each_rule
def test_it_follows_the_hypotheses_of_a_beam_search(rule, oracle):
    check_in_beams(rule, oracle)


def test_they_are_the_processors_of_transformers():
    theirs = transformers_processors()
    check_against_transformers(ForbiddenTokens([2, 4]), theirs.SuppressTokensLogitsProcessor([2, 4]))
    check_against_transformers(
        LogitBias({2: 1.5, 5: -2.0}), theirs.SequenceBiasLogitsProcessor({(2,): 1.5, (5,): -2.0})
    )
    check_against_transformers(ForcedTokens([(0, 3)]), theirs.ForcedBOSTokenLogitsProcessor(3), prompt=())
    check_against_transformers(ForcedTokens([(4, 1)]), theirs.ForcedEOSTokenLogitsProcessor(6, 1), prompt=())


def test_a_forced_token_comes_even_if_the_step_forbids_it():
    model = PrefixModel.random(3, SIZE)
    model.table[:, 3] = -np.inf
    rules = (ForcedTokens([(1, 3)]),)
    sequences, scores, _ = run(greedy_search, model, mode=compiled, max_length=4, rules=rules)
    assert (sequences[:, 1] == 3).all() and np.isfinite(scores).all()


def test_rules_apply_in_their_order():
    model = PrefixModel.random(3, SIZE)
    first, then = ForcedTokens([(0, 3)]), ForbiddenTokens([3])
    assert (run(greedy_search, model, max_length=2, rules=(then, first))[0][:, 0] == 3).all()
    assert (run(greedy_search, model, max_length=2, rules=(first, then))[1] == -np.inf).all()


EVERY_RULE = (
    ForbiddenTokens([0]),
    AllowedTokens(range(SIZE)),
    LogitBias({2: 0.5}),
    RepetitionPenalty(1.3),
    FrequencyPenalty(0.2, 0.3),
    NoRepeatNgram(2),
    CallableRule(not_as_before_last),
    MinimumLength(2, 1),
    TokenAutomaton(np.zeros((1, SIZE), "int32"), accepting=[0], end_id=1),
    ForcedTokens([(1, 3)]),
    StopSequences([(3, 4), (5,)], 1),
    Budget(6, 1),
)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow has shapes without a size")
def test_all_rules_work_with_an_unknown_batch_size():
    import tensorflow as tf

    table = tf.constant(np.random.default_rng(0).normal(size=(SIZE, SIZE)), "float32")

    def decode(starts, prompt):
        def step(tokens, index, state):
            return tf.gather(table, tokens), state

        options = dict(max_length=8, end_id=1, rules=EVERY_RULE, prompt=prompt, seed=5, num_samples=2)
        return sample_search(step, (), starts, **options)

    starts, prompt = tf.constant([2, 3, 4]), tf.constant([[2, -1], [5, 6], [-1, -1]])
    signature = [tf.TensorSpec([None], "int32"), tf.TensorSpec([None, 2], "int32")]
    expected = decode(starts, prompt)
    for ours, theirs in zip(tf.function(decode, input_signature=signature)(starts, prompt), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_all_rules_hold_together_and_with_samples():
    model = PrefixModel.random(3, SIZE, batch_size=5)
    options = dict(max_length=8, end_id=1, rules=EVERY_RULE, num_samples=3, seed=5)
    sequences, scores, lengths = run(sample_search, model, mode=compiled, **options)
    assert np.isfinite(scores).all() and (lengths >= 2).all() and (lengths <= 6).all()
    np.testing.assert_array_equal(sequences[:, :, 1], np.where(sequences[:, :, 0] == 5, 1, 3))  # 5 stops
    for sequence, length in zip(sequences.reshape(-1, 8).tolist(), lengths.ravel(), strict=True):
        pairs = list(zip(sequence[: length - 1], sequence[1:length], strict=True))
        assert len(set(pairs)) == len(pairs) and sequence[length - 1] == 1


@pytest.mark.parametrize("search_by", [ruled_beam_search, sample_search])
def test_all_rules_run_in_a_compiled_loop(search_by):
    table = ops.convert_to_tensor(np.random.default_rng(0).normal(size=(SIZE, SIZE)).astype("float32"))

    def decode(starts, seed):
        def step(tokens, index, state):
            return ops.take(table, tokens, axis=0), state

        own = dict(num_beams=2) if search_by is ruled_beam_search else dict(num_samples=2, seed=seed)
        return search_by(step, (), starts, max_length=8, end_id=1, rules=EVERY_RULE, **own)

    fast = compile_loop(decode, [])
    for start, seed in ((2, 3), (3, 4)):
        starts, seed = ops.convert_to_tensor([start, 4, 5], "int32"), ops.convert_to_tensor(seed, "int32")
        for ours, expected in zip(fast(starts, seed), decode(starts, seed), strict=True):
            np.testing.assert_allclose(ops.convert_to_numpy(ours), ops.convert_to_numpy(expected), rtol=1e-5)


def test_an_all_forbidden_row_stays_forbidden_and_is_never_nan():
    logits = np.full((3, 5, SIZE), -np.inf, "float32")
    tokens = np.full((3, 5), 2, "int32")
    for rule in EVERY_RULE:
        ruled = trace(rule, logits, tokens[:, 0], tokens)
        assert not np.isnan(ruled).any() and not np.isposinf(ruled).any()


def test_settings_are_hashable_and_compare():
    again = (ForbiddenTokens((0,)), AllowedTokens(np.arange(SIZE)), LogitBias([(2, 0.5)]))
    assert again == EVERY_RULE[:3] and hash(again) == hash(EVERY_RULE[:3])
    assert len({hash(rule) for rule in EVERY_RULE}) == len(EVERY_RULE)


def first_step(rule):
    logits = ops.zeros((2, SIZE))
    start = ops.zeros(2, "int32")
    return rule(logits, start, ops.convert_to_tensor(0), rule.start(start, 3, ops.zeros((2, 0), "int32")))


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (lambda: ForbiddenTokens([-1]), "`ids` must be an integer of at least 0. Received: ids=-1"),
        (lambda: AllowedTokens("a"), "`ids` must be an integer of at least 0. Received: ids='a'"),
        (lambda: ForcedTokens([(0, 1), (0, 2)]), r"`pairs` must not say two things .* Received: pairs=\[\(0, 1\), \(0"),
        (lambda: ForcedTokens([0, 1]), r"`pairs` must be pairs, or a dict. Received: pairs=\[0, 1\]"),
        (lambda: ForcedTokens({-1: 1}), "`pairs` must be an integer of at least 0. Received: pairs=-1"),
        (lambda: LogitBias({1: float("inf")}), "`biases` must be a finite number. Received: biases=inf"),
        (lambda: LogitBias({1: None}), "`biases` must be a finite number. Received: biases=None"),
        (lambda: LogitBias({1.5: 1}), "`biases` must be an integer of at least 0. Received: biases=1.5"),
        (lambda: CallableRule(3), "`function` must be callable. Received: function=3"),
        (lambda: first_step(ForbiddenTokens([7])), "`ids` must be smaller than the vocabulary size 7. Received: ids=7"),
        (lambda: first_step(AllowedTokens([1, 8])), r"`ids` must be smaller .* Received: ids=\(1, 8\)"),
        (lambda: first_step(ForcedTokens({0: 9})), "`pairs` must be smaller .* Received: pairs=9"),
        (lambda: first_step(LogitBias({9: 1.0})), "`biases` must be smaller .* Received: biases=9"),
        (lambda: first_step(CallableRule(lambda x, *_: x[:, :3])), r"`function` must return .* shape \(2, 3\)"),
    ],
)
def test_a_wrong_setting_is_named(create, message):
    with pytest.raises(ValueError, match=message):
        create()
