"""Draws the pictures of `docs/attention_page.md`: a page of a translator, opened in Chromium.

Run from the checkout, with selenium, Chromium and chromedriver installed:

    python -m docs.generate.attention_page_pictures [page]

`page` is what `examples/attention_page.py` wrote; without it, the example runs first, for three quarters of a minute.
"""

import io
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[2]
MOST_BYTES = 120_000
IMAGES = ROOT / "docs" / "images"
HOVER = (
    "document.querySelectorAll('.{side} li')[{index}].dispatchEvent(new PointerEvent('pointerover', {{bubbles: true}}))"
)
CLICK = "document.getElementById('{}').click()"
PICTURES = {  # file: the height of the window, and what a reader does
    "attention_page_light.png": (880, [CLICK.format("layer-after")]),
    "attention_page_dark.png": (
        960,
        [
            *[CLICK.format("theme")] * 2,
            *(CLICK.format("view-heatmap"), CLICK.format("layer-after")),
        ],
    ),
    "attention_page_translation.png": (
        600,
        [CLICK.format("view-sentence"), CLICK.format("layer-after"), HOVER.format(side="query", index=18)],
    ),
}


def take_pictures(page, folder):
    """Opens the page anew for each picture, does what a reader does, and writes what is seen."""
    from PIL import Image
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for argument in ("--no-sandbox", "--headless=new", "--hide-scrollbars", "--force-device-scale-factor=1"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        for name, (height, steps) in PICTURES.items():
            driver.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": 1120, "height": height, "deviceScaleFactor": 1, "mobile": False},
            )
            driver.get(pathlib.Path(page).resolve().as_uri())
            time.sleep(0.5)
            for step in steps:
                driver.execute_script(step)
                time.sleep(0.3)
            picture = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
            for colours in (256, 96):
                picture.quantize(colours, dither=Image.Dither.NONE).save(folder / name, optimize=True)
                if (folder / name).stat().st_size < MOST_BYTES:
                    break
            print(f"{folder / name}: {(folder / name).stat().st_size / 1000:.0f} kB")
    finally:
        driver.quit()


def main(arguments):
    """Draws all pictures."""
    if arguments:
        take_pictures(arguments[0], IMAGES)
        return
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, ROOT / "examples" / "attention_page.py", "--output", folder], check=True)
        take_pictures(pathlib.Path(folder) / "attention.html", IMAGES)


if __name__ == "__main__":
    main(sys.argv[1:])
