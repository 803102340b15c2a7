"""The page of attention in a real browser: what is shown is compared with the scores that went in."""

import json
import re
import shutil
import time

import keras
import numpy as np
import pytest

from keras_tfm.visualization.attention_page import AttentionPage
from keras_tfm.visualization.collect_attention import AttentionRecord

if keras.backend.backend() != "torch":
    pytest.skip("the page is the same on every backend: it is opened on torch alone", allow_module_level=True)
webdriver = pytest.importorskip("selenium.webdriver")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
if not (BROWSER and DRIVER):
    pytest.skip("no Chromium with chromedriver is installed: the page is not opened", allow_module_level=True)

SOURCE = ["the", "old", "doctor", "</script>", "books"]
TARGET = ["<start>", "老", "医", "生", "书", "ספר"]
FRAME_MILLISECONDS = 250  # for a layer of 12 heads and 512 x 512 tokens on a busy machine without a graphics card


def record(kind, num_queries, num_keys, num_heads=3, seed=0, sharpness=2.0, head_size=None):
    rng = np.random.default_rng(seed)
    scores = np.exp(sharpness * rng.normal(size=(1, num_heads, num_queries, num_keys)))
    vectors = (
        () if head_size is None else (rng.normal(size=(1, n, num_heads, head_size)) for n in (num_queries, num_keys))
    )
    return AttentionRecord(f"{kind}_{seed}", kind, (scores / scores.sum(-1, keepdims=True)).astype("float32"), *vectors)


RECORDS = [
    *(record("encoder", 5, 5, seed=seed, head_size=7) for seed in (0, 1)),
    *(record("decoder", 6, 6, seed=seed, head_size=7) for seed in (2, 3)),
    *(record("cross", 6, 5, seed=seed, head_size=7) for seed in (4, 5)),
]


def scores_of(kind, layer):
    """The scores that the page should have, as bytes have them."""
    found = [record.scores[0] for record in RECORDS if record.kind == kind][layer]
    return np.rint(found * 255) / 255


class Page:
    """The page in the browser, steered as a reader does."""

    def __init__(self, driver):
        self.driver = driver

    def run(self, script, *args):
        return self.driver.execute_script(script, *args)

    def after(self, script, *args):
        """Runs a script that changes something, and waits until it is drawn."""
        before = self.drawn
        self.run(script, *args)
        self.wait_for(lambda: self.drawn > before)

    def wait_for(self, condition):
        end = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end, "the page has not changed"
            time.sleep(0.01)

    @property
    def drawn(self):
        return int(self.run("return document.body.dataset.drawn ?? 0"))

    @property
    def status(self):
        return re.sub("[\u2068\u2069]", "", self.run("return document.getElementById('status').textContent"))

    def click(self, identity):
        self.after("document.getElementById(arguments[0]).click()", identity)

    def hover(self, side, index):
        item = self.run("return document.querySelectorAll(`.${arguments[0]} li`)[arguments[1]]", side, index)
        before = self.drawn
        webdriver.ActionChains(self.driver).move_to_element(item).perform()
        self.wait_for(lambda: self.drawn > before)

    def press(self, key, shift=False):
        before, actions = self.drawn, webdriver.ActionChains(self.driver)
        if shift:
            actions.key_down(webdriver.Keys.SHIFT).send_keys(key).key_up(webdriver.Keys.SHIFT).perform()
        else:
            actions.send_keys(key).perform()
        self.wait_for(lambda: self.drawn > before)

    def numbers(self, side):
        return self.run(
            "return [...document.querySelectorAll(`.${arguments[0]} .number`)].map((n) => n.textContent)", side
        )

    @property
    def lines(self):
        return int(self.run("return document.querySelector('.lines canvas').dataset.lines"))


@pytest.fixture(scope="module")
def driver():
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--no-sandbox", "--headless=new", "--disable-gpu", "--window-size=1200,900", "--no-first-run"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    page = AttentionPage.from_records(RECORDS, SOURCE, TARGET, title="A <b>title</b>")
    return page.save(tmp_path_factory.mktemp("page") / "page.html")


def open_page(driver, path):
    driver.get("about:blank")
    for kind in ("browser", "performance"):
        driver.get_log(kind)
    driver.get(path.as_uri())
    page = Page(driver)
    page.wait_for(lambda: page.drawn)
    return page


@pytest.fixture
def page(driver, path):
    opened = open_page(driver, path)
    yield opened
    assert driver.get_log("browser") == []


def labels(weights, threshold=0.05):
    return ["" if weight < threshold else f"{weight:.2f}".lstrip("0") for weight in weights]


def nearly(shown, expected):
    """Whether rounded numbers agree: what lies between two may be rounded either way."""
    return len(shown) == len(expected) and all(
        one == other or abs(float(one or 0) - float(other or 0)) < 0.0101
        for one, other in zip(shown, expected, strict=True)
    )


def test_the_file_opens_without_an_error_and_asks_the_network_for_nothing(page, driver, path):
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert [url for url in sent if url != path.as_uri()] == []
    assert page.run("return performance.getEntriesByType('resource').length") == 0
    assert page.run("return document.querySelector('h1').textContent") == "A <b>title</b>"
    tokens = "return [...document.querySelectorAll(`.${arguments[0]} li bdi`)].map((token) => token.textContent)"
    assert page.run(tokens, "query") == TARGET and page.run(tokens, "key") == SOURCE


def test_the_lines_are_those_of_the_checked_heads_above_the_threshold(page):
    scores = scores_of("cross", 0)
    assert page.lines == (scores >= 0.05).sum()
    set_threshold = (
        "const range = document.getElementById('threshold'); range.value = 30; range.dispatchEvent(new Event('input'))"
    )
    page.after(set_threshold)
    assert page.lines == (scores >= 0.3).sum()
    page.after("document.querySelectorAll('#heads input')[1].click()")
    assert page.lines == (scores[[0, 2]] >= 0.3).sum()
    page.click("all-heads")
    assert page.lines == (scores >= 0.3).sum()


def test_pointing_at_a_token_shows_its_scores_alone(page):
    scores = scores_of("cross", 0)
    page.hover("query", 2)
    weights = scores.mean(axis=0)[2]
    assert nearly(page.numbers("key"), labels(weights))
    assert page.lines == (scores[:, 2] >= 0.05).sum()
    best = int(weights.argmax())
    assert f"“医” attends to “{SOURCE[best]}” {round(100 * weights[best])} %" in page.status
    page.hover("key", 1)
    assert nearly(page.numbers("query"), labels(scores.mean(axis=0)[:, 1]))
    assert "“old” is attended to by" in page.status


def test_kind_layer_and_heads_are_switched(page):
    page.click("kind-encoder")
    page.click("layer-after")
    assert page.lines == (scores_of("encoder", 1) >= 0.05).sum()
    page.after("const s = document.getElementById('layer'); s.value = 0; s.dispatchEvent(new Event('change'))")
    assert page.lines == (scores_of("encoder", 0) >= 0.05).sum()
    page.click("kind-decoder")
    page.hover("query", 0)
    assert "“<start>” attends to" in page.status and "Layer 1 of 2, mean of all 3 heads" in page.status


def test_the_keyboard_goes_everywhere(page):
    keys = webdriver.Keys
    page.run("document.querySelector('.query li').focus()")
    page.press(keys.ARROW_DOWN)
    assert "“老” attends to" in page.status
    assert page.run("return document.activeElement.matches('.query li:nth-child(2):focus-visible')")
    page.press(keys.ARROW_RIGHT)
    assert page.status.startswith("Layer 2 of 2, mean of all 3 heads: “老”")
    page.press(keys.ARROW_RIGHT, shift=True)
    assert page.status.startswith("Layer 2 of 2, head 1: “老”")
    assert nearly(page.numbers("key"), labels(scores_of("cross", 1)[0, 1]))
    page.press(keys.ENTER)
    assert page.run("return document.querySelector('.query [aria-selected=true] bdi').textContent") == "老"
    page.press(keys.ESCAPE)
    assert page.status.endswith("point at a token, or go to one by Tab and the arrow keys.")


def test_every_part_can_be_reached_by_tab_and_has_a_name(page):
    unnamed = """return [...document.querySelectorAll('button, select, input, [role], [tabindex="0"]')].filter((part) =>
        !part.disabled && !(part.getAttribute('aria-label') || part.labels?.length || part.textContent.trim()) &&
        part.id !== 'status').map((part) => part.outerHTML)"""
    assert page.run(unnamed) == []
    assert page.run("return document.querySelectorAll('.tokens [tabindex=\"0\"]').length") == 2
    page.after("document.getElementById('numbers').open = true")
    cells = page.run("return [...document.querySelectorAll('#numbers tbody tr')].map((row) => row.innerText)")
    weights = scores_of("cross", 0).mean(axis=0)
    assert [row.split("\t")[0] for row in cells] == [f"{i + 1} {token}" for i, token in enumerate(TARGET)]
    assert all(SOURCE[best] in row.split("\t")[1] for row, best in zip(cells, weights.argmax(axis=1), strict=True))


def test_every_view_shows_the_same_scores(page):
    scores = scores_of("cross", 0)
    page.hover("query", 3)
    page.click("view-sentence")
    assert nearly(page.numbers("key"), labels(scores.mean(axis=0)[3]))
    page.click("view-heatmap")
    dataset = page.run("return {...document.querySelector('.heat-map .room canvas').dataset}")
    assert int(dataset["cells"]) == (scores.mean(axis=0) >= 0.05).sum()
    assert abs(float(dataset["highest"]) - scores.mean(axis=0).max()) < 1e-4
    page.click("view-grid")
    page.wait_for(lambda: page.run("return document.querySelectorAll('.grid button[data-drawn]').length") == 6)
    page.after('document.querySelector(\'.grid button[data-layer="1"][data-head="2"]\').click()')
    assert page.lines == (scores_of("cross", 1)[2] >= 0.05).sum()


def test_queries_times_keys_are_their_products(page):
    page.click("view-neurons")
    page.after("const s = document.getElementById('query-token'); s.value = 4; s.dispatchEvent(new Event('change'))")
    query, key = RECORDS[4].query[0, 4, 0], RECORDS[4].key[0, 2, 0]
    canvas = page.run("return document.querySelector('.neuron-view canvas')")
    move = """const place = arguments[0].getBoundingClientRect();
        const [clientX, clientY] = [place.left + 90, place.top + 60 + 2.5 * 26];
        arguments[0].dispatchEvent(new PointerEvent('pointermove', { clientX, clientY }));"""
    page.run(move, canvas)
    detail = page.run("return document.querySelector('.detail').textContent")
    found = float(re.search(r"q · k = (-?[\d.]+)", detail)[1])
    assert abs(found - query @ key) < 0.1, detail
    dimension, *numbers = map(float, re.search(r"dimension (\d+): (\S+) × (\S+) = (\S+)", detail).groups())
    index = int(dimension) - 1
    np.testing.assert_allclose(numbers, [query[index], key[index], query[index] * key[index]], atol=0.05)


def test_the_page_is_dark_where_the_system_is_and_where_one_asks(page, driver):
    colour = "return getComputedStyle(document.body).backgroundColor"
    light = page.run(colour)
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    dark = page.run(colour)
    page.click("theme")
    assert page.run(colour) == light != dark
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    page.click("theme")
    assert page.run(colour) == dark


def test_a_layer_of_512_tokens_is_drawn_at_once(driver, tmp_path, record_property):
    records = [record("encoder", 512, 512, num_heads=12, seed=seed, sharpness=3.0) for seed in (0, 1)]
    path = AttentionPage.from_records(records, [f"token{index}" for index in range(512)]).save(tmp_path / "long.html")
    page = open_page(driver, path)
    switch = """const [button, done] = arguments, start = performance.now(), before = document.body.dataset.drawn;
        document.getElementById(button).click();
        const look = () => document.body.dataset.drawn === before ? requestAnimationFrame(look)
            : requestAnimationFrame(() => done(performance.now() - start));
        look();"""
    times = [driver.execute_async_script(switch, f"layer-{way}") for way in ("after", "before") * 3]
    record_property("milliseconds", times)
    print("milliseconds from the switch of a layer to the frame after:", times)
    assert min(times) < FRAME_MILLISECONDS  # other processes make a page slower, never faster
    page.run("document.querySelector('.heads-box').scrollTop = 1e6")
    page.hover("query", 511)
    weights = np.rint(records[0].scores[0, :, 511] * 255).mean(axis=0) / 255
    assert f"“token{weights.argmax()}”" in page.status
    assert driver.get_log("browser") == []
