"""Every kind of beam search gives compiled what it gives eagerly, also when its program is used again."""

import numpy as np
import pytest
from keras import ops

from keras_tfm.backend import compile_loop
from keras_tfm.generation.beam import Beam
from keras_tfm.generation.constrained_beam import ConstrainedBeam
from keras_tfm.generation.coverage import CoveragePenalty
from keras_tfm.generation.diverse_beam import DiverseBeam
from keras_tfm.generation.strategy import search
from tests.generation.prefix_model import PrefixModel, following_code

STRATEGIES = {
    "exact": Beam(3, num_results=2),
    "first": Beam(3, early_stopping="first", penalty="average"),
    "one": Beam(1),
    "coverage": Beam(3, early_stopping="heuristic", coverage=CoveragePenalty(0.5, lambda state: state["attention"])),
    "diverse": DiverseBeam(4, num_groups=2),
    "constrained": ConstrainedBeam(3, constraints=[[[2, 3]], [[4, -1]], [[-1, -1]], [[0, 0]], [[2, -1]]]),
}


@pytest.mark.parametrize("kind", STRATEGIES)
def test_compiled_is_eager(kind):
    def decode(table, codes, starts):
        def step(tokens, index, state):
            code = following_code(state["code"], tokens, index)
            attention = ops.cast(ops.stack([code % 7, code % 5], axis=1), "float32") / 20
            return ops.take(table, code, axis=0), {"code": code, "attention": state["attention"] + attention}

        state = {"attention": ops.zeros((ops.shape(starts)[0], 2)), "code": codes}
        return search(STRATEGIES[kind], step, state, starts, max_length=5, end_id=1)

    program = compile_loop(decode, [])
    for seed in (3, 4):
        model = [ops.convert_to_tensor(each) for each in PrefixModel.random(seed, 5, end_bias=1.0)]
        for result, expected in zip(program(*model), decode(*model), strict=True):
            np.testing.assert_allclose(ops.convert_to_numpy(result), ops.convert_to_numpy(expected), rtol=1e-5)


def test_an_empty_batch_gives_empty_results():
    def step(tokens, index, state):
        return ops.one_hot(tokens, 5), state

    for strategy in (STRATEGIES["first"], STRATEGIES["diverse"]):
        results = search(strategy, step, (), np.zeros(0, "int32"), max_length=4, end_id=1)
        num_beams = strategy.num_beams
        assert [tuple(result.shape) for result in results] == [(0, num_beams, 4), (0, num_beams), (0, num_beams)]
