"""How subword models are trained and rebuilt with the Hugging Face `tokenizers` library."""

import json

ALGORITHMS = ("bpe", "unigram", "wordpiece")
SPACE = "▁"
CONTINUED = "##"
# Expectation maximisation adds in the order of its threads: scores differ by 1e-11 from run to run.
_SCORE_DECIMALS = 4
_UNICODE_FORMS = (None, "NFC", "NFD", "NFKC", "NFKD")


def train_tokenizer(texts, vocabulary_size, algorithm, lowercase, unicode_form, max_alphabet, specials):
    """Learns pieces; the arguments are those of `SubwordTokenizer.train`.

    Returns:
        A `tokenizers.Tokenizer` without added tokens: the special ones are entries of its vocabulary only.

    Raises:
        ValueError: the vocabulary cannot hold the alphabet.
    """
    library = _tokenizers()
    # Word pieces are BPE's pieces with a mark on those inside a word: the library's own trainer for them numbers its
    # alphabet in the random order of a hash table, and no two runs agree.
    learned = "unigram" if algorithm == "unigram" else "bpe"
    tokenizer = library.Tokenizer(_empty_model(library, learned, specials))
    tokenizer.normalizer = _normalizer(library, lowercase, unicode_form)
    tokenizer.pre_tokenizer = library.pre_tokenizers.Split(SPACE, "merged_with_next")
    try:
        tokenizer.train_from_iterator(texts, _trainer(library, learned, vocabulary_size, max_alphabet, specials))
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f"`texts` cannot be learned with vocabulary_size={vocabulary_size}: {error}") from error
    if tokenizer.get_vocab_size() > vocabulary_size:
        raise ValueError(
            f"`vocabulary_size` must hold the special tokens and the alphabet, together {tokenizer.get_vocab_size()} "
            f"(or set `max_alphabet`). Received: vocabulary_size={vocabulary_size}"
        )
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = []
    state["model"] = _canonical_model(algorithm, state["model"], specials)
    return restore_tokenizer(state)


def restore_tokenizer(state):
    """Makes a `tokenizers.Tokenizer` from its JSON state.

    Args:
        state: dict.

    Returns:
        A `tokenizers.Tokenizer`.

    Raises:
        ValueError: the state is not that of a tokenizer.
    """
    library = _tokenizers()
    try:
        return library.Tokenizer.from_str(json.dumps(state, ensure_ascii=False))
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f"is not the state of a tokenizer: {error}") from error


def _tokenizers():
    try:
        import tokenizers
    except ImportError as error:
        raise ImportError('Subword tokenizers need the library `tokenizers`: pip install "keras_tfm[text]"') from error
    return tokenizers


def _empty_model(library, algorithm, specials):
    if algorithm == "unigram":
        return library.models.Unigram()
    return library.models.BPE(unk_token=specials[3])


def _trainer(library, algorithm, vocabulary_size, max_alphabet, specials):
    options = {"vocab_size": vocabulary_size, "special_tokens": list(specials), "show_progress": False}
    if algorithm == "unigram":
        return library.trainers.UnigramTrainer(unk_token=specials[3], **options)
    if max_alphabet is not None:
        options["limit_alphabet"] = max_alphabet
    return library.trainers.BpeTrainer(**options)


def _normalizer(library, lowercase, unicode_form):
    if unicode_form not in _UNICODE_FORMS:
        raise ValueError(f"`unicode_form` must be one of {_UNICODE_FORMS}. Received: unicode_form={unicode_form!r}")
    normalizers = library.normalizers
    steps = [getattr(normalizers, unicode_form)()] if unicode_form else []
    if lowercase:
        steps.append(normalizers.Lowercase())
    # Metaspace would do the same but for a text that begins with a space, which it would lose.
    return normalizers.Sequence([*steps, normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])


def _canonical_model(algorithm, model, specials):
    if algorithm == "bpe":
        return model
    count = len(specials)
    if algorithm == "unigram":
        rounded = [(piece, round(score, _SCORE_DECIMALS)) for piece, score in model["vocab"]]
        ranked = sorted(rounded[count:], key=lambda entry: (-entry[1], entry[0]))
        return model | {"vocab": rounded[:count] + ranked}
    pieces = sorted(model["vocab"], key=model["vocab"].get)
    marked = [piece if piece.startswith(SPACE) else CONTINUED + piece for piece in pieces[count:]]
    return {
        "type": "WordPiece",
        "unk_token": specials[3],
        "continuing_subword_prefix": CONTINUED,
        "max_input_chars_per_word": 1000,
        "vocab": {piece: index for index, piece in enumerate([*pieces[:count], *marked])},
    }
