"""DeBERTa's disentangled attention: equations 3 and 4, single distances and logarithmic buckets."""

import math

import keras
import numpy as np
import pytest

from keras_tfm.layers import MultiHeadAttention
from keras_tfm.layers.disentangled_position import DisentangledPosition
from tests.layers.position_hooks import assert_gradients_are, built, tensors, weights_of
from tests.layers.position_laws import (
    assert_attention_is,
    assert_finite_in_any_policy,
    assert_is_a_layer,
    assert_laws,
    assert_windows_are_the_whole,
)
from tests.numerics import assert_close, randomize, to_numpy


def single(i, j, max_distance):
    """δ(i, j) of equation 3, `[0, 2k)`."""
    if i - j <= -max_distance:
        return 0
    if i - j >= max_distance:
        return 2 * max_distance - 1
    return i - j + max_distance


def bucketed(i, j, max_distance, num_buckets):
    """δ(i, j) with the buckets of DeBERTa v2, as its code counts them."""
    distance, middle = i - j, num_buckets // 2
    if abs(distance) > middle:
        share = math.log(abs(distance) / middle) / math.log((max_distance - 1) / middle)
        distance = int(math.copysign(math.ceil(share * (middle - 1)) + middle, distance))
    return min(max(distance + num_buckets, 0), 2 * num_buckets - 1)


def logits_in_numpy(delta, terms=("content_to_position", "position_to_content"), distance_from_key=True, content=True):
    """Equation 4 divided by √(3H), or by √(2H) with one term."""

    def logits(query, key, query_positions, key_positions, weights):
        batch, queries, heads, size = query.shape
        group = heads // key.shape[2]
        result = np.zeros((batch, heads, queries, key.shape[1]))
        for b, n, t, s in np.ndindex(result.shape):
            q, k = query[b, t, n], key[b, s, n // group]
            i, j = int(query_positions[b, t]), int(key_positions[b, s])
            total = q @ k if content else 0.0
            if "content_to_position" in terms:
                total += q @ (weights["table"][delta(i, j)] @ weights["key_kernel"][:, n // group])
            if "position_to_content" in terms:
                row = delta(j, i) if distance_from_key else delta(i, j)
                position = weights["table"][row] @ weights["query_kernel"][:, n]
                total += k @ (position + (weights["query_bias"][n] if "query_bias" in weights else 0))
            result[b, n, t, s] = total / math.sqrt((1 + len(terms)) * size)
        return result

    return logits


CASES = [
    ({"max_distance": 4}, lambda i, j: single(i, j, 4)),
    ({"max_distance": 4, "distance_from_key": False}, lambda i, j: single(i, j, 4)),
    ({"max_distance": 30, "num_buckets": 6}, lambda i, j: bucketed(i, j, 30, 6)),
    ({"max_distance": 12, "num_buckets": 8, "use_bias": True, "dim": 5}, lambda i, j: bucketed(i, j, 12, 8)),
    ({"max_distance": 3, "terms": ("content_to_position",)}, lambda i, j: single(i, j, 3)),
    ({"max_distance": 3, "terms": ("position_to_content",)}, lambda i, j: single(i, j, 3)),
]


def options_of_oracle(arguments):
    return {name: arguments[name] for name in ("terms", "distance_from_key") if name in arguments}


@pytest.mark.parametrize("arguments, delta", CASES)
def test_attention_is_the_papers(arguments, delta):
    """The content too is divided by √(3H)."""
    logits = logits_in_numpy(delta, **options_of_oracle(arguments))
    assert_attention_is(lambda: DisentangledPosition(**arguments), logits)


@pytest.mark.parametrize("arguments, delta", CASES)
def test_gradients(arguments, delta):
    """`bias` takes heads that `rotate` scaled; its own share of the scale is the rest."""
    oracle = logits_in_numpy(delta, content=False, **options_of_oracle(arguments))
    share = (1 + len(arguments.get("terms", "12"))) ** 0.25
    assert_gradients_are(
        lambda: DisentangledPosition(**arguments),
        lambda query, key, *others: oracle(query * share, key * share, *others),
    )


@pytest.mark.parametrize("arguments, _", CASES)
def test_laws(arguments, _):
    assert_laws(lambda: DisentangledPosition(**arguments))


def embedding(rows=8, **others):
    return keras.layers.Embedding(rows, 5, **others)


def shared_model():
    table = embedding(name="table")
    inputs = keras.Input((None, 11))
    x = inputs
    for name in ("first", "second"):
        position = DisentangledPosition(4, embeddings=table, name=f"{name}_position")
        x = MultiHeadAttention(4, 6, position=position, name=name)(x, x)
    return keras.Model(inputs, x)


def test_embeddings_given_are_as_a_table_of_its_own():
    own, other = (
        built(lambda: DisentangledPosition(4, dim=5)),
        built(lambda: DisentangledPosition(4, embeddings=embedding())),
    )
    weights = weights_of(own)
    other.embeddings.set_weights([weights["table"]])
    for name in ("key_kernel", "query_kernel"):
        getattr(other, name).assign(weights[name])
    heads = np.random.default_rng(0).normal(size=(2, 5, 4, 6))
    places = tensors(np.arange(5), np.arange(5))
    assert_close(other.bias(*tensors(heads, heads), *places), own.bias(*tensors(heads, heads), *places))


def test_a_normalized_table_may_be_given():
    """As DeBERTa v2 has it: a layer norm over the embeddings of the distances."""
    table = keras.Sequential([embedding(), keras.layers.LayerNormalization()])
    position = built(lambda: DisentangledPosition(4, embeddings=table))
    heads = np.random.default_rng(0).normal(size=(2, 5, 4, 6))
    assert position.bias(*tensors(heads, heads, np.arange(5), np.arange(5))).shape == (2, 4, 5, 5)


def test_shared_embeddings_are_there_once():
    model = shared_model()
    assert sum("table" in variable.path for variable in model.weights) == 1
    assert model.get_layer("first").position.embeddings is model.get_layer("second").position.embeddings


def test_shared_embeddings_stay_shared_through_a_file(tmp_path):
    model = randomize(shared_model())
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    assert copy.get_layer("first").position.embeddings is copy.get_layer("second").position.embeddings
    x = np.random.default_rng(0).normal(size=(2, 5, 11)).astype("float32")
    assert_close(copy(x), model(x))


def test_sliding_windows():
    assert_windows_are_the_whole(lambda: DisentangledPosition(30, num_buckets=6))


def test_reduced_precision():
    assert_finite_in_any_policy(lambda: DisentangledPosition(4))


@pytest.mark.parametrize("arguments, _", CASES[3:4])
def test_as_a_layer(arguments, _):
    assert_is_a_layer(lambda **others: DisentangledPosition(**arguments, **others))


def test_as_a_layer_with_embeddings_given():
    def make(dtype=None, **others):
        return DisentangledPosition(4, embeddings=embedding(dtype=dtype), dtype=dtype, **others)

    assert_is_a_layer(make, unused=("dim", "embeddings_initializer"))


def test_projections_start_different():
    position = DisentangledPosition(4)
    position.build((None, None, 4, 6), (None, None, 4, 6), (None, None, 4, 6))
    weights = weights_of(position)
    assert np.abs(weights["key_kernel"] - weights["query_kernel"]).max() > 1e-3


def test_rotate_splits_the_scale_between_queries_and_keys():
    heads = np.random.default_rng(0).normal(size=(2, 5, 4, 6))
    query = to_numpy(DisentangledPosition(4).rotate(*tensors(heads, np.arange(5))))
    assert_close(query * query, heads * heads / math.sqrt(3))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"max_distance": 0}, "`max_distance` must be a positive integer.*max_distance=0"),
        ({"max_distance": 9, "num_buckets": 2}, "`num_buckets` must be an integer, at least 4.*num_buckets=2"),
        ({"max_distance": 9, "num_buckets": 5}, "`num_buckets` must be even.*num_buckets=5"),
        ({"max_distance": 4, "num_buckets": 6}, "`max_distance` beyond.*max_distance=4"),
        ({"max_distance": 4, "dim": 0}, "`dim` must be a positive integer.*dim=0"),
        ({"max_distance": 4, "terms": ()}, r"`terms` must be some of.*terms=\(\)"),
        ({"max_distance": 4, "terms": ("c2p",)}, "`terms` must be some of.*c2p"),
        ({"max_distance": 4, "terms": "content_to_position"}, "`terms` must be some of"),
        ({"max_distance": 4, "embeddings": "table"}, "`embeddings` must be.*'table'"),
        ({"max_distance": 5, "embeddings": embedding()}, "`embeddings` must have 10 rows.*input_dim=8"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        DisentangledPosition(**arguments)


def test_another_number_of_heads_is_refused():
    position = built(lambda: DisentangledPosition(4), heads=4)
    heads = np.zeros((1, 2, 3, 6))
    with pytest.raises(ValueError, match="built for 4 heads.*num_heads=3"):
        position.bias(*tensors(heads, heads, np.arange(2), np.arange(2)))
