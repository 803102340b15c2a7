"""Strings in, strings out: as each alone, in the order they came in, in few batches."""

import numpy as np
import pytest

from tests.models.test_generate import END, language_model, translator

TEXTS = ["cabd", "", "b", "  ", "jihgfedcbabcd", "dd", "b", "cabe"]


class Letters:
    """a = 3, b = 4, ...; ids below 3 have no letter."""

    def encode_batch(self, texts):
        return [[3 + ord(letter) - ord("a") for letter in text] for text in texts]

    def decode(self, ids):
        return "".join(chr(ord("a") + index - 3) if index > 2 else "?" for index in ids)


LETTERS = Letters()


def alone(model, text, max_length, **options):
    (ids,) = LETTERS.encode_batch([text])
    results = model.generate([ids], max_length=max_length, **options)
    return [(row[: length - (row[length - 1] == END)].tolist(), score) for row, score, length in _rows(results)]


def _rows(results):
    sequences, scores, lengths = (each[0] for each in results)
    return zip(np.atleast_2d(sequences), np.atleast_1d(scores), np.atleast_1d(lengths), strict=True)


def test_translations_are_those_of_each_text_alone_in_order(capsys):
    model = translator()
    translations = model.translate(TEXTS, LETTERS, max_length=5, batch_size=3)
    for text, translation in zip(TEXTS, translations, strict=True):
        expected = LETTERS.decode(alone(model, text, 5)[0][0]) if text.strip() else ""
        assert translation == expected
    assert capsys.readouterr().out == ""
    model.translate(["b"], LETTERS, max_length=5, progress=True)
    assert "1/1" in capsys.readouterr().out


def test_the_best_come_with_their_scores():
    model = translator()
    options = dict(strategy="beam", num_beams=3)
    lists = model.translate(["cabd", ""], LETTERS, LETTERS, max_length=5, num_best=2, return_scores=True, **options)
    expected = alone(model, "cabd", 5, **options)
    for one, (ids, score) in zip(lists[0], expected, strict=False):
        assert one.text == LETTERS.decode(ids)
        np.testing.assert_allclose(one.score, score, rtol=1e-4)
    assert lists[1] == [("", 0.0)] * 2
    assert model.translate(["cabd"], LETTERS, max_length=5, **options) == [lists[0][0].text]


def test_the_greatest_length_goes_with_the_source():
    model = translator()
    lengths = []
    generate = model.generate
    model.generate = lambda *args, **options: lengths.append(options["max_length"]) or generate(*args, **options)
    try:
        model.translate(["abc"], LETTERS)
    finally:
        del model.generate
    assert lengths == [2 * 8 + 16]


def test_samples_do_not_depend_on_their_batch():
    model = translator()
    options = dict(max_length=5, strategy="sampling", seed=7)
    whole = model.translate(["b", "cabd", "b"], LETTERS, **options)
    assert whole == model.translate(["b", "cabd", "b"], LETTERS, batch_size=1, **options)
    several = model.translate(["b"], LETTERS, num_best=3, **options)
    assert len(several[0]) == 3


def test_texts_are_continued():
    model = language_model()
    texts = ["cabd", "b", "abcabc"]
    for text, more in zip(texts, model.complete(texts, LETTERS, max_length=4), strict=True):
        assert more == LETTERS.decode(alone(model, text, 4)[0][0])
    begun = model.complete(["", "b"], LETTERS, max_length=4, start_id=1)
    expected = model.generate([[1], [1, 4]], max_length=4)
    for more, row, length in zip(begun, expected.sequences, expected.lengths, strict=True):
        assert more == LETTERS.decode(row[: length - (row[length - 1] == END)].tolist())


def test_errors_come_before_any_work():
    model, language = translator("learned"), language_model()
    for call, arguments, message in [
        (model.translate, dict(texts="abc"), "`texts` must be a sequence of strings.*texts='abc'"),
        (model.translate, dict(texts=["a", 3]), r"`texts` must be strings. Received: texts\[1\]=3"),
        (model.translate, dict(texts=["a" * 41]), r"at most 40 tokens.*texts\[0\] of 41 tokens"),
        (model.translate, dict(texts=["a"], num_best=2), "`num_best` needs a strategy.*num_best=2, strategy=Greedy"),
        (model.translate, dict(texts=["a"], num_beams=2), "`greedy` has the settings.*num_beams=2"),
        (model.translate, dict(texts=["a"], batch_size=0), "`batch_size` must be an integer of at least 1"),
        (language.complete, dict(texts=["a", ""], max_length=3), r"`start_id` begins every text.*texts\[1\]=''"),
        (language.complete, dict(texts=["a" * 39], max_length=3), r"at most 38 tokens.*texts\[0\] of 39 tokens"),
    ]:
        with pytest.raises(ValueError, match=message):
            call(arguments.pop("texts"), LETTERS, **arguments)
    assert model.translate([], LETTERS) == []
