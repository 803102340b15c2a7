"""Whole numbers, ranks and years read aloud in English and in Chinese.

>>> translate_number(10010), translate_number(2000), translate_number(200), translate_count(2)
('一万零一十', '两千', '二百', '两')
>>> say_number(10010), say_ordinal(21), say_year(1905), translate_year(1905)
('ten thousand and ten', 'twenty-first', 'nineteen oh five', '一九〇五年')
"""

SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()
SCALES = ((10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred"))
FIRST = {"one": "first", "two": "second", "three": "third"}
STEMS = {"five": "fif", "eight": "eigh", "nine": "nin", "twelve": "twelf"}
DIGITS = "零一二三四五六七八九"


def say_number(number, conjunction=" and "):
    """Reads a whole number below 10**12 in English; `conjunction` stands before what is less than a hundred."""
    if number < 20:
        return SMALL[number]
    if number < 100:
        return TENS[number // 10] + ("-" + SMALL[number % 10] if number % 10 else "")
    size, word = next(scale for scale in SCALES if number >= scale[0])
    text = f"{say_number(number // size, conjunction)} {word}"
    rest = number % size
    if not rest:
        return text
    return text + (conjunction if rest < 100 else " ") + say_number(rest, conjunction)


def say_count(number, one, many):
    """Reads a number and the noun it counts, in its singular `one` or its plural `many`."""
    return f"{say_number(number)} {one if number == 1 else many}"


def say_ordinal(number):
    """Reads a rank in English: 21 is "twenty-first"."""
    words = say_number(number)
    start = max(words.rfind(" "), words.rfind("-")) + 1
    last = words[start:]
    stem = STEMS.get(last, last[:-1] + "ie" if last.endswith("y") else last)
    return words[:start] + FIRST.get(last, stem + "th")


def say_year(year):
    """Reads a year from 1100 to 2099 in English, by pairs of digits: 1905 is "nineteen oh five"."""
    century, rest = divmod(year, 100)
    if 2000 <= year < 2010:
        return say_number(year)
    if not rest:
        return say_number(century) + " hundred"
    return say_number(century) + (" oh " if rest < 10 else " ") + say_number(rest)


def translate_number(number):
    """Reads a whole number below 10**12 in Chinese; 两 opens it before 千, 万 and 亿, 二 stands everywhere else."""
    if number == 0:
        return "零"
    text = ""
    for size, unit in ((10**8, "亿"), (10**4, "万"), (1, "")):
        section, number = divmod(number, size)
        if section:
            text += ("零" if text and section < 1000 else "") + _translate_section(section) + unit
    text = text.removeprefix("一") if text.startswith("一十") else text
    return "两" + text[1:] if text[:2] in ("二千", "二万", "二亿") else text


def _translate_section(section):
    text = ""
    for size, unit in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit, rest = section // size % 10, section % size
        if digit:
            text += DIGITS[digit] + unit
        elif text and rest and not text.endswith("零"):
            text += "零"
    return text


def translate_count(number):
    """Reads a whole number in Chinese as it stands before a measure word, where a bare two is 两."""
    return "两" if number == 2 else translate_number(number)


def translate_year(year):
    """Reads a year in Chinese, digit by digit."""
    return "".join("〇一二三四五六七八九"[int(digit)] for digit in str(year)) + "年"
