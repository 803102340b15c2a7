"""Steps one by one say what the loop says."""

import functools

import numpy as np
import pytest
from keras import ops

from keras_tfm import backend
from keras_tfm.generation import Beam, Greedy, MinimumLength, Mirostat, NoRepeatNgram, Sampling, search
from keras_tfm.generation.streamed_search import StreamedSearch, stream_search
from tests.generation.prefix_model import PrefixModel, following_code

V, END, LENGTH = 7, 1, 9
RULES = (NoRepeatNgram(2), MinimumLength(3, END))
STRATEGIES = {
    "greedy": Greedy(),
    "sampling": Sampling(temperature=0.8, top_k=5),
    "samples": Sampling(num_samples=3),
    "mirostat": Mirostat(),
}
LIMITS = dict(max_length=LENGTH, end_id=END, pad_id=0)


@functools.cache
def model():
    return PrefixModel.random(3, V, batch_size=5, end_bias=1.0, end_id=END)


def step(tokens, index, state):
    """All that it reads is in the state; the table is the same for each row."""
    code, table = state
    code = following_code(code, tokens, index)
    return ops.take(ops.convert_to_tensor(model().table), code, axis=0), (code, table)


def inputs():
    return (model().codes, np.ones((5, 2), "float32")), model().starts


@functools.cache
def expected(name, rules=(), seed=4):
    results = search(STRATEGIES[name], step, *inputs(), rules=rules, seed=seed, **LIMITS)
    return [ops.convert_to_numpy(each) for each in results]


def check(tokens, name, rules=()):
    sequences, _, lengths = expected(name, rules)
    tokens = np.stack(list(tokens), axis=-1)
    assert tokens.shape[-1] == lengths.max()
    np.testing.assert_array_equal(tokens, sequences[..., : tokens.shape[-1]])


@pytest.mark.parametrize("name", STRATEGIES)
def test_steps_one_by_one_say_what_the_loop_says(name):
    check(stream_search(STRATEGIES[name], step, *inputs(), seed=4, **LIMITS), name)


@pytest.mark.parametrize("name", ["greedy", "samples"])
def test_rules_keep_their_memory_from_step_to_step(name):
    check(stream_search(STRATEGIES[name], step, *inputs(), seed=4, rules=RULES, **LIMITS), name, RULES)


def test_compiled_steps_say_the_same_and_run_again():
    streamed = StreamedSearch(
        STRATEGIES["sampling"],
        step,
        rules=RULES,
        compiled=lambda function: backend.compile_loop(function, ()),
        **LIMITS,
    )
    for _ in range(2):
        check(streamed(*inputs(), seed=4), "sampling", RULES)


def test_nothing_is_computed_before_it_is_asked_for():
    calls = []

    def counted(tokens, index, state):
        calls.append(int(index))
        return step(tokens, index, state)

    tokens = stream_search(Greedy(), counted, *inputs(), **LIMITS)
    assert not calls
    next(tokens)
    assert calls == [0]


def test_strategies_that_change_their_past_are_refused():
    with pytest.raises(ValueError, match=r"never changes what it has said.*'Greedy'.*strategy=Beam\("):
        stream_search(Beam(2), step, *inputs(), **LIMITS)
    with pytest.raises(ValueError, match="`max_length` must be an integer of at least 1.*max_length=0"):
        stream_search(Greedy(), step, *inputs(), max_length=0)
