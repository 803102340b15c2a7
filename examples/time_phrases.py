"""English phrases for years, dates, clock times, weekdays and durations, each with its one Chinese translation.

Every function takes a `random.Random` and returns (english, chinese). Chinese goes from the large unit to the small.
Minutes "to" an hour count from the hour before (quarter to four: 三点四十五分); a quarter past is 一刻, half past is
半. Years are read digit by digit.
"""

import datetime

from number_words import (
    say_count,
    say_number,
    say_ordinal,
    say_year,
    translate_count,
    translate_number,
    translate_year,
)

MONTHS = "January February March April May June July August September October November December".split()
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
DAYS = (("on", ""), ("next", "下"), ("last", "上"), ("this", "这"), ("every", "每"))
UNITS = "second,秒 minute,分钟 hour,小时 day,天 week,个星期 month,个月 year,年".split()
HALVES = {"hour": "个半小时", "day": "天半", "week": "个半星期", "month": "个半月", "year": "年半"}
SUFFIXES = (("", "", ""), ("", " ago", "前"), ("", " later", "后"), ("after ", "", "以后"))


def year(draw):
    """Reads "in nineteen oh five" as 一九〇五年."""
    number = draw.randint(1500, 2099)
    return f"{draw.choice(('in', 'the year', 'in the year'))} {say_year(number)}", translate_year(number)


def date(draw):
    """Reads "Saturday, the second of May, nineteen ninety-eight" as 一九九八年五月二日星期六."""
    first, last = datetime.date(1500, 1, 1).toordinal(), datetime.date(2099, 12, 31).toordinal()
    day = datetime.date.fromordinal(draw.randint(first, last))
    rank, month = say_ordinal(day.day), MONTHS[day.month - 1]
    english = draw.choice((f"the {rank} of {month}", f"{month} the {rank}", f"{month} {rank}"))
    chinese = f"{translate_number(day.month)}月{translate_number(day.day)}日"
    if draw.random() < 0.3:
        english, chinese = f"{WEEKDAYS[day.weekday()]}, {english}", chinese + _translate_weekday(day.weekday())
    if draw.random() < 0.5:
        english, chinese = f"{english}, {say_year(day.year)}", translate_year(day.year) + chinese
    return english, chinese


def _translate_weekday(index):
    return "星期" + "一二三四五六日"[index]


def clock(draw):
    """Reads "twenty to four in the afternoon" as 下午三点四十分."""
    hour, minute = draw.randint(1, 12), draw.choice((0, 15, 30, 45, draw.randint(1, 59), draw.randint(1, 59)))
    english, chinese = _spoken_clock(hour, minute) if draw.random() < 0.7 else _digital_clock(hour, minute)
    if draw.random() < 0.5:
        return english, chinese
    parts = (("in the morning", "早上"), ("in the evening", "晚上"))
    if hour == 12 or hour < 5:
        parts = (("in the afternoon", "下午"), ("at night", "夜里"))
    part, translated = draw.choice(parts)
    return f"{english} {part}", translated + chinese


def _digital_clock(hour, minute):
    if not minute:
        return f"{say_number(hour)} o'clock", f"{translate_count(hour)}点"
    zero = minute < 10
    english = f"{say_number(hour)} {'oh ' * zero}{say_number(minute)}"
    return english, f"{translate_count(hour)}点{'零' * zero}{translate_number(minute)}分"


def _spoken_clock(hour, minute):
    english, chinese = _digital_clock(hour, minute)
    if not minute:
        return english, chinese
    distance = min(minute, 60 - minute)
    name = {15: "quarter", 30: "half"}.get(distance, say_number(distance) + " minutes" * (distance % 5 > 0))
    if minute > 30:
        return f"{name} to {say_number(hour % 12 + 1)}", chinese
    hours = translate_count(hour)
    return f"{name} past {say_number(hour)}", {15: f"{hours}点一刻", 30: f"{hours}点半"}.get(minute, chinese)


def weekday(draw):
    """Reads "half past nine next Monday" as 下星期一九点半."""
    index, (word, prefix) = draw.randrange(7), draw.choice(DAYS)
    english, chinese = f"{word} {WEEKDAYS[index]}", prefix + _translate_weekday(index)
    if draw.random() < 0.3:
        return english, chinese
    time, translated = clock(draw)
    return draw.choice((f"{time} {english}", f"{english} at {time}")), chinese + translated


def moment(draw):
    """Reads "twenty past three on the second of May" as 五月二日三点二十分."""
    (time, translated_time), (day, translated_day) = clock(draw), date(draw)
    english = draw.choice((f"{time} on {day}", f"on {day}, at {time}", f"at {time} on {day}"))
    return english, translated_day + translated_time


def duration(draw):
    """Reads "two hours and twenty minutes ago" as 两小时二十分钟前."""
    index, number = draw.randrange(1, len(UNITS)), draw.choice((draw.randint(1, 12), draw.randint(1, 99)))
    (unit, translated), (smaller, translated_smaller) = UNITS[index].split(","), UNITS[index - 1].split(",")
    english, chinese = say_count(number, unit, unit + "s"), translate_count(number) + translated
    style = draw.random()
    if style < 0.3:
        less = draw.randint(1, 59)
        english = f"{english} and {say_count(less, smaller, smaller + 's')}"
        chinese += translate_count(less) + translated_smaller
    elif style < 0.5 and unit in HALVES:
        english, chinese = f"{say_number(number)} and a half {unit}s", translate_count(number) + HALVES[unit]
    before, after, suffix = draw.choice(SUFFIXES)
    return f"{before}{english}{after}", chinese + suffix
