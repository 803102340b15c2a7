"""English number, date and time phrases with their one Chinese translation: a corpus that needs no download.

    >>> pairs = make_pairs(1000, seed=0)
    >>> train, test = split(pairs, held_out=100, seed=0)
    >>> len(train) + len(test)
    1000

Chinese puts the large unit before the small one and the price before the purchase, wants before each noun the measure
word of that noun, has 二 or 两 for two, 老 or 旧 for old, and copies over long distances. Every English phrase has
exactly one translation: where Chinese leaves a choice, `number_words` and `time_phrases` say which rule is kept.

The held-out phrases are new combinations of words that training has seen, of any of the kinds below; no kind is held
out as a whole.
"""

import random

from number_words import say_count, say_number, say_ordinal, translate_count, translate_number
from time_phrases import clock, date, duration, moment, weekday, year


def _table(text):
    return [tuple(row.strip().split(",")) for row in text.split(";")]


# One noun, many, measure word, Chinese noun.
ANIMATE = _table(
    "cat,cats,只,猫; dog,dogs,条,狗; horse,horses,匹,马; bird,birds,只,鸟; cow,cows,头,牛; friend,friends,个,朋友;"
    "teacher,teachers,位,老师; doctor,doctors,位,医生; student,students,名,学生; soldier,soldiers,名,士兵"
)
THINGS = _table(
    "book,books,本,书; car,cars,辆,汽车; tree,trees,棵,树; letter,letters,封,信; ticket,tickets,张,票; pen,pens,支,笔;"
    "peach,peaches,个,桃子; shirt,shirts,件,衬衫; chair,chairs,把,椅子; table,tables,张,桌子; song,songs,首,歌;"
    "shop,shops,家,商店; computer,computers,台,电脑; plane,planes,架,飞机; ship,ships,艘,船; film,films,部,电影;"
    "flower,flowers,朵,花; house,houses,座,房子; knife,knives,把,刀; cup of tea,cups of tea,杯,茶;"
    "bottle of water,bottles of water,瓶,水; pair of shoes,pairs of shoes,双,鞋"
)
ADJECTIVES = _table("big,大; small,小; new,新; good,好; beautiful,漂亮的; strange,奇怪的")
OWNERS = _table("my,我的; your,你的; her,她的; our,我们的; these,这; those,那")
MONEY = _table("yuan,yuan,元; dollar,dollars,美元; pound,pounds,英镑; euro,euros,欧元")
EVENTS = _table(
    "the train leaves,火车,出发; the meeting begins,会议,开始; the shop opens,商店,开门; my mother arrives,我妈妈,到;"
    "the film ends,电影,结束; we eat,我们,吃饭"
)
PEOPLE = _table("I,我; he,他; she,她; they,他们; the teacher,老师; my sister,我妹妹")


def _number(draw, longest):
    """A number of up to `longest` digits: all lengths are equally frequent, and zeros are the most frequent digits."""
    digits = [draw.choice("0000123456789") for _ in range(draw.randint(1, longest) - 1)]
    return int("".join([draw.choice("123456789"), *digits]))


def cardinal(draw):
    """Reads "ten thousand and ten" as 一万零一十."""
    number = _number(draw, 10)
    return say_number(number), translate_number(number)


def plain_cardinal(draw):
    """Reads "ten thousand ten", without "and", as 一万零一十."""
    number = _number(draw, 10)
    return say_number(number, " "), translate_number(number)


def ordinal(draw):
    """Reads "the twenty-first book" as 第二十一本书."""
    number, (one, _, measure, noun) = draw.randint(1, 199), draw.choice(ANIMATE + THINGS)
    if draw.random() < 0.3:
        return f"the {say_ordinal(number)}", f"第{translate_number(number)}"
    return f"the {say_ordinal(number)} {one}", f"第{translate_number(number)}{measure}{noun}"


def decimal(draw):
    """Reads "three point one four" as 三点一四."""
    whole, digits = draw.randint(0, 99), [draw.randrange(10) for _ in range(draw.randint(1, 4))]
    english = f"{say_number(whole)} point {' '.join(map(say_number, digits))}"
    return english, f"{translate_number(whole)}点{''.join(map(translate_number, digits))}"


def share(draw):
    """Reads "two thirds of the students" as 三分之二的学生, and "nine percent" as 百分之九."""
    whole, (_, many, _, noun) = draw.randint(3, 20), draw.choice(ANIMATE + THINGS)
    part = draw.randint(1, whole - 1)
    english, chinese = f"{say_number(part)} {say_ordinal(whole)}{'s' * (part > 1)}", translate_number(whole)
    if draw.random() < 0.4:
        part = draw.randint(1, 99)
        english, chinese = f"{say_number(part)} percent", "百"
    chinese = f"{chinese}分之{translate_number(part)}"
    return draw.choice(((english, chinese), (f"{english} of the {many}", f"{chinese}的{noun}")))


def count(draw):
    """Reads "these three old books" as 这三本旧书."""
    return _count(draw, ANIMATE + THINGS)[:2]


def _count(draw, nouns):
    one, many, measure, noun = draw.choice(nouns)
    number = draw.choice((1, 2, draw.randint(2, 12), draw.randint(3, 99), _number(draw, 4)))
    chinese = translate_count(number) + measure
    if draw.random() < 0.4:
        old = ("old", "老" if (one, many, measure, noun) in ANIMATE else "旧")
        adjective, translated = draw.choice((*ADJECTIVES, old, old))
        one, many, noun = f"{adjective} {one}", f"{adjective} {many}", translated + noun
    english = say_count(number, one, many)
    if number > 1 and draw.random() < 0.3:
        owner, translated = draw.choice(OWNERS)
        english, chinese = f"{owner} {english}", translated + chinese
    return english, chinese + noun, measure


def age(draw):
    """Reads "two thirty-year-old teachers" as 两位三十岁的老师."""
    years, number, (one, many, measure, noun) = draw.randint(1, 99), draw.randint(1, 20), draw.choice(ANIMATE)
    old = f"{say_number(years)}-year-old"
    if draw.random() < 0.7:
        chinese = f"{translate_count(number)}{measure}{translate_count(years)}岁的{noun}"
        return say_count(number, f"{old} {one}", f"{old} {many}"), chinese
    owner, translated = draw.choice(OWNERS[:4])
    return f"{owner} {one} is {say_count(years, 'year', 'years')} old", f"{translated}{noun}{translate_count(years)}岁"


def price(draw):
    """Reads "three dollars and fifty cents" as 三美元五十美分."""
    number, (one, many, unit) = draw.choice((draw.randint(1, 99), _number(draw, 5))), draw.choice(MONEY)
    english, chinese = say_count(number, one, many), translate_count(number) + unit
    if unit != "美元" or draw.random() < 0.5:
        return english, chinese
    cents = draw.randint(1, 99)
    return f"{english} and {say_count(cents, 'cent', 'cents')}", f"{chinese}{translate_count(cents)}美分"


def trade(draw):
    """Reads "she bought one pen for ten yuan" as 她花十元买了一支笔, "two pens for one yuan each" as 两支笔每支一元."""
    (goods, translated_goods, measure), (money, translated_money) = _count(draw, THINGS), price(draw)
    if draw.random() < 0.3:
        return f"{goods} for {money} each", f"{translated_goods}每{measure}{translated_money}"
    person, translated = draw.choice(PEOPLE)
    if draw.random() < 0.5:
        day, translated_day = date(draw)
        return f"{person} bought {goods} on {day}", f"{translated}{translated_day}买了{translated_goods}"
    return f"{person} bought {goods} for {money}", f"{translated}花{translated_money}买了{translated_goods}"


def span(draw):
    """Reads "from half past three to quarter to five" as 从三点半到四点四十五分."""
    kind = draw.choice((clock, date, plain_cardinal))
    (start, translated_start), (end, translated_end) = kind(draw), kind(draw)
    if draw.random() < 0.5:
        return f"from {start} to {end}", f"从{translated_start}到{translated_end}"
    return f"between {start} and {end}", f"{translated_start}和{translated_end}之间"


def event(draw):
    """Reads "the train leaves at ten past two next Monday" as 火车下星期一两点十分出发."""
    (english, subject, verb), kind = draw.choice(EVENTS), draw.choice((moment, weekday, clock, date))
    when, translated = kind(draw)
    if not when.startswith(("on ", "at ", "next ", "last ", "this ", "every ")):
        when = f"on {when}" if kind is date else f"at {when}"
    return f"{english} {when}", f"{subject}{translated}{verb}"


KINDS = (cardinal, plain_cardinal, ordinal, decimal, share, count, age, price, trade)
KINDS += (year, date, clock, weekday, moment, duration, span, event)


def make_pairs(num, seed=0):
    """Draws `num` different English phrases of all `KINDS`, each with its translation; a seed has one answer."""
    draw, pairs = random.Random(seed), {}
    while len(pairs) < num:
        english, chinese = draw.choice(KINDS)(draw)
        pairs[english] = chinese
    return list(pairs.items())


def split(pairs, held_out=1000, seed=0):
    """Splits into (train, test): all pairs of `held_out` translations are the test; training has neither side."""
    targets = sorted({target for _, target in pairs})
    kept_apart = set(random.Random(seed).sample(targets, held_out))
    test = [pair for pair in pairs if pair[1] in kept_apart]
    sources = {source for source, _ in test}
    return [pair for pair in pairs if pair[1] not in kept_apart and pair[0] not in sources], test
