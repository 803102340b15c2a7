import keras
import numpy as np
import pytest

from keras_tfm.models import Word2Vec
from keras_tfm.text import Word2VecBatches

V, D, B, T, M = 11, 5, 2, 7, 3
INPUTS = {
    "token_ids": [[0, 3, 4, 5, 3, 9, 10], [7, 8, 1, 2, 2, 0, 0]],
    "segment_ids": [[0, 1, 1, 1, 1, 2, 2], [1, 1, 2, 2, 2, 0, 0]],
    "radii": [[0, 1, 3, 2, 0, 1, 0], [2, 1, 1, 2, 1, 0, 0]],
    "negative_ids": [[3, 6, 3], [2, 9, 1]],
}
INPUTS = {name: np.array(rows, "int32") for name, rows in INPUTS.items()}


def windows():
    """(row, place in the middle, places of its context), by loops."""
    for row in range(B):
        segments, radii = INPUTS["segment_ids"][row], INPUTS["radii"][row]
        for i in range(T):
            near = [j for j in range(T) if 0 < abs(i - j) <= radii[i] and segments[i] == segments[j]]
            if near:
                yield row, i, near


def oracle(tables, architecture, loss, pooling="mean", num_negatives=5):
    """The mean loss of the pairs in float64, pair by pair, from the papers' equations."""
    inner, outer = tables
    losses = []
    for row, i, near in windows():
        ids = INPUTS["token_ids"][row]
        if architecture == "skip_gram":
            predictions = [(inner[ids[i]], ids[j]) for j in near]
        else:
            total = sum(inner[ids[j]] for j in near)
            predictions = [(total / len(near) if pooling == "mean" else total, ids[i])]
        for hidden, target in predictions:
            if loss == "full_softmax":
                losses.append(np.log(np.exp(outer[1:] @ hidden).sum()) - outer[target] @ hidden)
                continue
            negatives = [word for word in INPUTS["negative_ids"][row] if word != target]
            noise = sum(np.log1p(np.exp(outer[word] @ hidden)) for word in negatives)
            losses.append(np.log1p(np.exp(-outer[target] @ hidden)) + num_negatives / M * noise)
    return np.mean(losses)


def finite_differences(tables, *setting, step=1e-5):
    gradients = [np.zeros_like(table) for table in tables]
    for table, gradient in zip(tables, gradients, strict=True):
        for place in np.ndindex(table.shape):
            value = table[place]
            table[place] = value + step
            above = oracle(tables, *setting)
            table[place] = value - step
            gradient[place] = (above - oracle(tables, *setting)) / (2 * step)
            table[place] = value
    return gradients


@pytest.mark.parametrize(
    "setting",
    [
        ("skip_gram", "negative_sampling"),
        ("skip_gram", "full_softmax"),
        ("cbow", "negative_sampling"),
        ("cbow", "full_softmax"),
        ("cbow", "negative_sampling", "sum", 7),
    ],
    ids=lambda setting: "-".join(map(str, setting)),
)
def test_loss_and_step_are_those_of_the_papers_equations(setting):
    """One step of gradient descent at rate 1 is the gradient."""
    names = ("architecture", "loss", "pooling", "num_negatives")
    model = Word2Vec(V, D, **dict(zip(names, setting, strict=False)), divide_gradient=True)
    tables = [np.random.default_rng(seed).normal(size=(V, D)) for seed in (0, 1)]
    model.set_weights(tables)
    model.compile(keras.optimizers.SGD(1.0))
    loss = model.train_on_batch(INPUTS)
    np.testing.assert_allclose(loss, oracle(tables, *setting), rtol=1e-5)
    after = model.vectors, model.output_vectors
    for table, moved, gradient in zip(tables, after, finite_differences(tables, *setting), strict=True):
        np.testing.assert_allclose(table - moved, gradient, atol=2e-6)
        np.testing.assert_array_equal(moved[0], table[0].astype("float32"))  # the padding


def test_each_word_of_a_context_gets_the_whole_gradient_of_their_mean():
    """As in word2vec.c: with two words in the context that is twice the gradient."""
    inputs = {
        "token_ids": np.array([[1, 2, 3]]),
        "segment_ids": np.array([[1, 1, 1]]),
        "radii": np.array([[0, 1, 0]]),
        "negative_ids": np.array([[4, 5]]),
    }
    tables, moves = [np.random.default_rng(seed).normal(size=(V, D)) for seed in (0, 1)], []
    for divide_gradient in (True, False):
        model = Word2Vec(V, D, architecture="cbow", divide_gradient=divide_gradient)
        model.set_weights(tables)
        model.compile(keras.optimizers.SGD(1.0))
        model.train_on_batch(inputs)
        moves.append((model.vectors - tables[0], model.output_vectors - tables[1]))
    (divided, outer), (whole, same) = moves
    np.testing.assert_allclose(whole, 2 * divided, atol=1e-5)
    np.testing.assert_allclose(outer, same, atol=1e-5)
    assert (np.abs(whole).max(axis=1) > 1e-5).tolist() == [word in (1, 3) for word in range(V)]


def test_pairwise_steps_are_a_rate_for_each_pair_and_none_is_longer_than_half():
    batches = Word2VecBatches([[1, 2, 3, 4, 2]], vocabulary_size=V, window=1, row_length=7, subsampling=0)
    tables = [np.random.default_rng(seed).normal(size=(V, D)) for seed in (0, 1)]
    model, moves = Word2Vec(V, D), []
    pairwise = (model.pairwise_sgd(batches, epochs=3, learning_rate=rate) for rate in (0.01, 1.0))
    for optimizer in (keras.optimizers.SGD(8.0), *pairwise):  # five words in a line are eight pairs
        model.set_weights(tables)
        model.compile(optimizer)
        model.train_on_batch(batches[0][0])
        moves.append(np.concatenate([model.vectors, model.output_vectors]) - np.concatenate(tables))
    lengths = np.linalg.norm(moves[0], axis=1, keepdims=True)
    for move, rate in zip(moves[1:], (0.01, 1.0), strict=True):
        expected = rate * moves[0] * np.minimum(1, 0.5 / np.maximum(rate * lengths, 1e-9))
        np.testing.assert_allclose(move, expected, atol=1e-5)
    assert 0.01 * lengths.max() < 0.5 < lengths.max()


CLASSES = (range(1, 5), range(5, 9), range(9, 13))


@pytest.fixture(scope="module")
def trained():
    """Skip-gram on a text in which the words of a class stand in the same places."""
    rng = np.random.default_rng(0)
    text = [[rng.choice(CLASSES[place % 3]) for place in range(9)] for _ in range(200)]
    batches = Word2VecBatches(text, vocabulary_size=13, window=1, row_length=32, tokens_per_batch=256, subsampling=0)
    model = Word2Vec(13, 7)
    model.compile(model.pairwise_sgd(batches, epochs=6))
    history = model.fit(batches, epochs=6, verbose=0, shuffle=False)
    return model, batches, history.history["loss"]


def test_fit_finds_the_classes_of_words(trained):
    model, _, losses = trained
    assert losses[-1] < losses[0]
    ids, similarities = model.most_similar(range(1, 13), k=3)
    for word, nearest in enumerate(ids, 1):
        assert {*nearest, word} == set(CLASSES[(word - 1) // 4])
    assert (np.diff(similarities) <= 0).all()
    assert model.similarity(1, 2) > 0.8 > 0.5 > model.similarity(1, 5)
    np.testing.assert_allclose(model.similarity(1, ids[0]), similarities[0], rtol=1e-5)


def test_evaluate_and_predict_agree(trained):
    model, batches, _ = trained
    (inputs,) = batches[0]
    losses = model.predict_on_batch(inputs)
    assert losses.shape == inputs["token_ids"].shape and losses.dtype == "float32"
    assert not losses[inputs["radii"] == 0].any()
    segments, radii = inputs["segment_ids"], inputs["radii"]
    distance = np.abs(np.arange(32)[:, None] - np.arange(32))
    is_pair = (distance > 0) & (distance <= radii[:, :, None]) & (segments[:, :, None] == segments[:, None])
    np.testing.assert_allclose(model.test_on_batch(inputs), losses.sum() / is_pair.sum(), rtol=1e-5)


def test_a_saved_model_is_the_same(trained, tmp_path):
    model, _, _ = trained
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    np.testing.assert_array_equal(loaded.vectors, model.vectors)
    np.testing.assert_array_equal(loaded.output_vectors, model.output_vectors)


def test_a_batch_of_padding_has_no_loss():
    model = Word2Vec(V, D)
    zeros = {name: np.zeros_like(rows) for name, rows in INPUTS.items()}
    losses = model(zeros)
    assert not keras.ops.convert_to_numpy(losses).any()
    assert keras.ops.convert_to_numpy(model.compute_loss(x=zeros, y_pred=losses)) == 0


def test_mixed_precision_has_its_loss_in_float32():
    losses = Word2Vec(V, D, dtype="mixed_bfloat16")(INPUTS)
    assert keras.backend.standardize_dtype(losses.dtype) == "float32"


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(architecture="glove"), "`architecture` must be one of skip_gram, cbow. Received: architecture='glove'"),
        (dict(loss="hinge"), "`loss` must be one of negative_sampling, full_softmax"),
        (dict(pooling="max"), "`pooling` must be one of mean, sum"),
        (dict(embedding_dim=0), "`embedding_dim` must be a positive integer. Received: embedding_dim=0"),
        (dict(num_negatives=1.5), "`num_negatives` must be a positive integer"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Word2Vec(V, **options)


def test_wrong_words_are_refused():
    model = Word2Vec(V, D)
    with pytest.raises(ValueError, match=r"`k` must be in \[1, 9\], the other words. Received: k=10"):
        model.most_similar([1], k=10)
    with pytest.raises(ValueError, match="`ids`"):
        model.similarity(1, V)
    with pytest.raises(ValueError, match="`ids` must be integers"):
        model.similarity(0.5, 1)
    with pytest.raises(ValueError, match="'negative_ids'.*`negatives_per_row`"):
        model({name: rows for name, rows in INPUTS.items() if name != "negative_ids"})
    with pytest.raises(ValueError, match="`epochs` must be a positive integer. Received: epochs=0"):
        model.pairwise_sgd(None, epochs=0)
    with pytest.raises(ValueError, match="`token_ids`"):
        model.fit({**INPUTS, "token_ids": INPUTS["token_ids"] + V})
