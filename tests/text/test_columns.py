"""Tagged sentences in columns, as the shared tasks and Universal Dependencies write them."""

import pytest

from keras_tfm.text import CorpusError, TaggedSentence, check_labels, read_columns, read_conllu

CONLLU = """# sent_id = 1
# text = Vámonos, he said
1-2\tVámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tVamos\tir\tVERB\tV\t_\t0\troot\t_\t_
2\tnos\tnosotros\tPRON\tP\t_\t1\tobj\t_\t_
2.1\tgone\tgo\tVERB\tV\t_\t_\t_\t_\t_
3\t#\t#\tSYM\tS\t_\t1\tdep\t_\t_

# text = New York
1\tNew York\tNew York\tPROPN\tN\t_\t0\troot\t_\t_
"""


@pytest.fixture
def write(tmp_path):
    def write_file(content, name="data"):
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return path

    return write_file


def test_conllu_gives_syntactic_words_without_comments_ranges_and_empty_nodes(write):
    assert read_conllu(write(CONLLU)) == [
        TaggedSentence(["Vamos", "nos", "#"], ["VERB", "PRON", "SYM"], 4),
        TaggedSentence(["New York"], ["PROPN"], 10),
    ]


def test_conllu_gives_the_tag_asked_for(write):
    assert read_conllu(write(CONLLU), "deprel")[0].tags == ["root", "obj", "dep"]
    with pytest.raises(ValueError, match="`tag` must be one of .* Received: tag='pos'"):
        read_conllu(write(CONLLU), "pos")


@pytest.mark.parametrize("separator", ["\t", " ", "  "])
def test_columns_are_cut_at_tabs_or_spaces(write, separator):
    rows = [("EU", "NNP", "B-ORG"), ("rejects", "VBZ", "O"), None, ("#hashtag", "NN", "O"), None, None]
    path = write("\n".join(separator.join(row) if row else "" for row in rows))
    expected = [TaggedSentence(["EU", "rejects"], ["B-ORG", "O"], 1), TaggedSentence(["#hashtag"], ["O"], 4)]
    assert read_columns(path, 0, 2) == expected
    assert read_columns(path, 0, -1) == expected


def test_a_line_without_a_tag_is_named(write):
    path = write("EU\tB-ORG\nrejects\n")
    for column in (1, -1):
        with pytest.raises(CorpusError, match=r"data:2: .* at least 2 columns. Received: 1 columns in 'rejects'"):
            read_columns(path, 0, column)


def test_an_empty_token_or_tag_is_named(write):
    with pytest.raises(CorpusError, match="data:2: a token and its tag must not be empty"):
        read_columns(write("EU\tB-ORG\n\tO\n"))


def test_a_word_number_that_is_none_is_named(write):
    with pytest.raises(CorpusError, match="data:1: a word number must be like 3, 3-4 or 3.1. Received: 'x'"):
        read_conllu(write("x\tEU\tEU\tPROPN\n"))


def test_a_file_without_sentences_is_refused(write):
    with pytest.raises(CorpusError, match="holds no sentence"):
        read_conllu(write("# only a comment\n\n"))


def test_ewt_is_read_whole(data_dir):
    train = read_conllu(data_dir / "ewt" / "en_ewt-ud-train.conllu")
    dev = read_conllu(data_dir / "ewt" / "en_ewt-ud-dev.conllu.gz")
    assert (len(train), len(dev)) == (12544, 2001)
    assert len(check_labels(train, dev)) == 17  # the UPOS tag set


def test_wnut_is_read_whole(data_dir):
    train = read_columns(data_dir / "wnut17" / "wnut17train.conll")
    dev = read_columns(data_dir / "wnut17" / "emerging.dev.conll")
    assert (len(train), len(dev)) == (3394, 1009)
    assert len(check_labels(train, dev)) == 13  # six kinds, B and I, and O


def test_uner_is_read_whole(data_dir):
    path = data_dir / "uner_zh" / "zh_gsdsimp-ud-dev.iob2"
    sentences = read_columns(path, 1, 2, separator="\t", comment_prefix="#", id_column=0)
    assert len(sentences) == 500
    assert {tag for sentence in sentences for tag in sentence.tags} <= {
        "O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-O", "I-O", "B-OTH", "I-OTH",
    }  # fmt: skip
