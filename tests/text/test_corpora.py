"""Readers give back what was written, and name file and line of what they cannot read."""

import gzip
import re

import pytest

from keras_tfm.text import CorpusError, read_lines, read_pairs, read_parallel


@pytest.fixture
def write(tmp_path):
    def write_file(name, content):
        data = content.encode("utf-8") if isinstance(content, str) else content
        path = tmp_path / name
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write_file


def test_lines_are_the_same_plain_and_zipped_and_under_the_plain_name(write, tmp_path):
    content = "a dog\n\n  ein  Hund \nüber\n"
    expected = ["a dog", "", "  ein  Hund ", "über"]
    assert read_lines(write("plain", content)) == expected
    assert read_lines(write("zipped.gz", content)) == expected
    assert read_lines(tmp_path / "zipped") == expected


def test_only_line_feeds_end_a_line(write):
    exotic = "one\u2028still one\x85still\x0cone\n"
    assert read_lines(write("exotic", exotic)) == [exotic[:-1]]


@pytest.mark.parametrize("content", ["a\r\nb\r\n", "a\nb", "\ufeffa\nb\n"])
def test_line_ends_and_byte_order_marks_are_no_part_of_the_text(write, content):
    assert read_lines(write("file", content)) == ["a", "b"]


def test_a_missing_file_is_answered_with_what_its_folder_has(write, tmp_path):
    write("train.en", "a\n")
    with pytest.raises(CorpusError, match=r"train\.de: no such file\. The folder .* has: train\.en$"):
        read_lines(tmp_path / "train.de")
    with pytest.raises(CorpusError, match="is a folder, a file is needed"):
        read_lines(tmp_path)
    with pytest.raises(CorpusError, match=r"The folder .*elsewhere does not exist"):
        read_lines(tmp_path / "elsewhere" / "train.de")


def test_a_long_folder_is_cut_short(write, tmp_path):
    for number in range(23):
        write(f"file{number:02d}", "a\n")
    with pytest.raises(CorpusError, match=r"file19 and 3 more$"):
        read_lines(tmp_path / "other")


def test_an_empty_file_is_refused(write):
    for name in ("empty", "empty.gz"):
        with pytest.raises(CorpusError, match="the file is empty"):
            read_lines(write(name, ""))


def test_bad_encoding_is_named_by_line_and_byte(write):
    with pytest.raises(CorpusError, match=re.escape("latin:2: not UTF-8 at byte 4 of the line (byte 10 of the text)")):
        read_lines(write("latin", b"a dog\nein \xfc\nb\n"))


def test_bad_encoding_after_a_byte_order_mark_is_named_by_the_bytes_of_the_file(write):
    with pytest.raises(CorpusError, match=r"latin:1: .* \(byte 5 of"):
        read_lines(write("latin", b"\xef\xbb\xbfab\xfc\n"))


def test_truncated_gzip_says_after_which_line(write, tmp_path):
    lines = [f"sentence number {number * number}" for number in range(9000)]
    whole = write("whole.gz", "\n".join(lines)).read_bytes()
    (tmp_path / "cut.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorpusError, match=r"cut\.gz: damaged or truncated gzip data after line \d+"):
        read_lines(tmp_path / "cut.gz")


def test_damaged_gzip_and_false_gzip_are_told_apart(write, tmp_path):
    whole = bytearray(write("whole.gz", "some text\n" * 99).read_bytes())
    whole[-6] ^= 0xFF  # the checksum
    (tmp_path / "damaged.gz").write_bytes(whole)
    with pytest.raises(CorpusError, match="damaged or truncated gzip data"):
        read_lines(tmp_path / "damaged.gz")
    (tmp_path / "false.gz").write_bytes(b"plain text\n")
    with pytest.raises(CorpusError, match=r"is not gzip data. Received: a file that begins with b'plain te'"):
        read_lines(tmp_path / "false.gz")


def test_parallel_files_pair_line_by_line(write):
    pairs = read_parallel(write("x.en", "a\nb\n"), write("x.de.gz", "c\nd\n"))
    assert pairs == [("a", "c"), ("b", "d")]


def test_unequal_line_counts_name_the_first_missing_line_and_both_counts(write):
    long, short = write("x.en", "a\nb\nc\n"), write("x.de", "d\ne\n")
    with pytest.raises(CorpusError, match=r"x\.de:3: this line is missing.*x\.en with 3 lines, .*x\.de with 2 lines"):
        read_parallel(long, short)
    with pytest.raises(CorpusError, match=r"x\.de:3: this line is missing.*x\.de with 2 lines, .*x\.en with 3 lines"):
        read_parallel(short, long)


def test_pairs_take_the_columns_asked_for(write):
    path = write("pairs.tsv", "a\tb\tc\nd\te\n")
    assert read_pairs(path) == [("a", "b"), ("d", "e")]
    assert read_pairs(path, columns=(1, 0)) == [("b", "a"), ("e", "d")]


def test_a_row_with_too_few_columns_is_named(write):
    with pytest.raises(CorpusError, match=r"pairs\.tsv:2: .* at least 2 tab-separated columns. Received: 1 columns"):
        read_pairs(write("pairs.tsv", "a\tb\nalone\n"))


@pytest.mark.parametrize("columns", [(0,), (0, -1), (0, 1, 2), ("a", "b")])
def test_columns_must_be_two_numbers(columns, write):
    with pytest.raises(ValueError, match="`columns` must be two column numbers"):
        read_pairs(write("pairs.tsv", "a\tb\n"), columns=columns)


@pytest.mark.parametrize(("split", "count"), [("train", 29000), ("val", 1014), ("test_2016_flickr", 1000)])
def test_multi30k_is_read_whole(data_dir, split, count):
    folder = data_dir / "multi30k"
    pairs = read_parallel(folder / f"{split}.lc.norm.tok.en", folder / f"{split}.lc.norm.tok.de")
    assert len(pairs) == count
    assert all(source.strip() and target.strip() for source, target in pairs)


def test_tatoeba_is_read_whole(data_dir):
    assert len(read_pairs(data_dir / "tatoeba" / "cmn-eng.train.tsv")) == 27055
    assert read_pairs(data_dir / "tatoeba" / "cmn-eng.dev.tsv.gz")[0] == ("Hug Tom.", "抱抱汤姆！")
