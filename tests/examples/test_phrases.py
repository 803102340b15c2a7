import doctest
import random
import re

import number_words
import phrases
import pytest
import time_phrases
from number_words import say_number, say_ordinal, say_year, translate_count, translate_number, translate_year

DIGITS = {sign: value for value, sign in enumerate("零一二三四五六七八九")} | {"两": 2}
SCALES = {"十": 10, "百": 100, "千": 1000, "万": 10**4, "亿": 10**8}


def read_numeral(text):
    """Reads a Chinese numeral back: a digit waits for its scale, 万 and 亿 multiply the section before them."""
    total = section = digit = 0
    for sign in text:
        if sign in DIGITS:
            digit = DIGITS[sign]
        elif SCALES[sign] < 10**4:
            section, digit = section + (digit or 1) * SCALES[sign], 0
        else:
            total, section, digit = total + (section + digit) * SCALES[sign], 0, 0
    return total + section + digit


def some_numbers():
    draw = random.Random(1)
    drawn = ("".join(draw.choices("0000123456789", k=draw.randint(1, 12))) for _ in range(3000))
    return [*range(1000), *map(int, drawn)]


def test_chinese_numerals_read_back_to_the_number_they_came_from():
    for number in some_numbers():
        assert read_numeral(translate_number(number)) == number
        assert read_numeral(translate_count(number)) == number


WELL_KNOWN = """
    0 零, 2 二, 10 十, 12 十二, 20 二十, 105 一百零五, 110 一百一十, 200 二百, 222 二百二十二, 1001 一千零一,
    1010 一千零一十, 2000 两千, 2002 两千零二, 10000 一万, 10010 一万零一十, 12000 一万二千, 20000 两万, 22000 两万二千,
    100000 十万, 105000 十万五千, 100500 十万零五百, 110000 十一万, 120000 十二万, 1000001 一百万零一, 10000000 一千万,
    22805100 两千二百八十万五千一百, 100000000 一亿, 100100000 一亿零一十万, 200000000 两亿, 1000000005 十亿零五,
    1050000000 十亿五千万
"""


@pytest.mark.parametrize("reading", [reading.strip() for reading in WELL_KNOWN.split(",")])
def test_well_known_chinese_readings(reading):
    number, chinese = reading.split()
    assert translate_number(int(number)) == chinese


def test_chinese_numerals_follow_the_rules_of_zero_and_two():
    for number in some_numbers():
        text = translate_number(number)
        assert "零零" not in text and (number == 0 or not text.endswith("零")) and not text.startswith("一十")
        assert re.search("零[十百千万亿]|二[千万亿].*两|^二[千万亿]|.两", text) is None


def read_english(text):
    """Reads an English numeral back, scale by scale."""
    words = {word: value for value, word in enumerate(number_words.SMALL)}
    words |= {word: 10 * value for value, word in enumerate(number_words.TENS) if value > 1}
    total = section = 0
    for word in text.replace("-", " ").replace(" and ", " ").split():
        scale = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}.get(word)
        if scale == 100:
            section *= 100
        elif scale:
            total, section = total + section * scale, 0
        else:
            section += words[word]
    return total + section


@pytest.mark.parametrize("conjunction", [" and ", " "])
def test_english_numerals_read_back_to_the_number_they_came_from(conjunction):
    for number in some_numbers():
        assert read_english(say_number(number, conjunction)) == number


def test_ranks_and_years_are_spelt_as_in_english():
    ranks = {1: "first", 2: "second", 3: "third", 5: "fifth", 8: "eighth", 9: "ninth", 12: "twelfth", 20: "twentieth"}
    ranks |= {21: "twenty-first", 30: "thirtieth", 101: "one hundred and first", 115: "one hundred and fifteenth"}
    assert {number: say_ordinal(number) for number in ranks} == ranks
    years = {1998: "nineteen ninety-eight", 1905: "nineteen oh five", 1900: "nineteen hundred", 2000: "two thousand"}
    years |= {2005: "two thousand and five", 2010: "twenty ten", 1066: "ten sixty-six"}
    assert {year: say_year(year) for year in years} == years
    assert translate_year(2005) == "二〇〇五年" and translate_year(1998) == "一九九八年"


def test_clock_times_read_as_chinese_says_them():
    readings = {
        (2, 0): ("two o'clock", "两点"),
        (7, 5): ("five past seven", "七点零五分"),
        (2, 15): ("quarter past two", "两点一刻"),
        (3, 20): ("twenty past three", "三点二十分"),
        (2, 30): ("half past two", "两点半"),
        (3, 45): ("quarter to four", "三点四十五分"),
        (12, 50): ("ten to one", "十二点五十分"),
        (7, 58): ("two minutes to eight", "七点五十八分"),
    }
    assert {time: time_phrases._spoken_clock(*time) for time in readings} == readings
    assert time_phrases._digital_clock(3, 15) == ("three fifteen", "三点十五分")
    assert time_phrases._digital_clock(2, 2) == ("two oh two", "两点零二分")


def test_no_english_phrase_has_two_translations():
    draw, seen = random.Random(2), {}
    for _ in range(60000):
        english, chinese = draw.choice(phrases.KINDS)(draw)
        assert seen.setdefault(english, chinese) == chinese


def test_measure_word_follows_the_noun_and_two_is_liang_before_it():
    pairs = dict(phrases.make_pairs(20000, seed=3))
    assert all(pairs.get(english, chinese) == chinese for english, chinese in (
        ("two cats", "两只猫"), ("three books", "三本书"), ("two books", "两本书"), ("one teacher", "一位老师"),
        ("twelve letters", "十二封信"), ("two old dogs", "两条老狗"), ("two old books", "两本旧书"),
    ))  # fmt: skip
    measures = {many: measure for _, many, measure, _ in phrases.ANIMATE + phrases.THINGS}
    counted = {many: chinese for many in measures for english, chinese in pairs.items() if english == f"two {many}"}
    assert len(counted) > 20
    assert all(chinese.startswith("两" + measures[many]) for many, chinese in counted.items())


def test_pairs_are_unique_and_decided_by_the_seed():
    pairs = phrases.make_pairs(2000, seed=5)
    assert len({english for english, _ in pairs}) == 2000
    assert phrases.make_pairs(2000, seed=5) == pairs
    assert phrases.make_pairs(2000, seed=6) != pairs


def test_held_out_phrases_and_translations_are_not_in_training():
    pairs = phrases.make_pairs(3000, seed=0)
    train, test = phrases.split(pairs, held_out=300, seed=0)
    assert sorted(train + test) == sorted(pairs)
    assert len({chinese for _, chinese in test}) == 300
    assert {english for english, _ in train}.isdisjoint(english for english, _ in test)
    assert {chinese for _, chinese in train}.isdisjoint(chinese for _, chinese in test)
    assert phrases.split(pairs, held_out=300, seed=0) == (train, test)


@pytest.mark.parametrize("module", [number_words, phrases, time_phrases])
def test_the_documented_phrases_are_true(module):
    assert doctest.testmod(module).failed == 0
