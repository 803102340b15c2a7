"""Labels that can be read whatever script they are in, as far as the installed fonts go."""

import functools
import unicodedata
import warnings
from pathlib import Path

VISIBLE_SPACES = {" ": "␣", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def visible_token(token):
    """Makes the spaces and line ends of a token visible; an empty token becomes "∅"."""
    return "".join(VISIBLE_SPACES.get(char, char) for char in str(token)) or "∅"


def readable_labels(texts):
    """Chooses for every text a font that has all its glyphs and replaces by code points what no font has.

    Args:
        texts: List of strings.

    Returns:
        List of pairs (string, path of a font file).

    Warns:
        UserWarning: Once, naming the scripts that no installed font has.
    """
    labels, missing = [], set()
    for text in texts:
        wanted = {char for char in text if char.isprintable() and not char.isspace()}
        font = next((path for path in font_files() if wanted <= _characters(path)), font_files()[0])
        unknown = {char for char in text if not char.isprintable()} | wanted - _characters(font)
        missing |= unknown
        labels.append(("".join(_code_point(char) if char in unknown else char for char in text), font))
    scripts = sorted({unicodedata.name(char, "UNNAMED").split()[0] for char in missing if char.isprintable()})
    if scripts:
        warnings.warn(
            f"No installed font has the characters of {', '.join(scripts)}: they are shown as code points. "
            "Install one, for instance a Noto font of that script.",
            UserWarning,
            stacklevel=3,
        )
    return labels


def show_label(text, font):
    """Gives a matplotlib text its font, at the size it has, and takes "$" for a dollar sign."""
    from matplotlib.font_manager import FontProperties

    text.set_fontproperties(FontProperties(fname=font, size=text.get_fontsize()))
    text.set_parse_math(False)


def _code_point(char):
    return f"U+{ord(char):04X}"


@functools.cache
def font_files():
    """Lists the font files to choose from: the one that matplotlib brings, then the installed ones, plain styles first.

    Returns:
        Tuple of paths, as strings.
    """
    import matplotlib
    from matplotlib.font_manager import findSystemFonts

    own = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    # A last-resort font has a box for every character there is.
    hollow = ("lastresort", "adobeblank")
    installed = [path for path in findSystemFonts() if not Path(path).stem.lower().startswith(hollow)]
    return (str(own), *sorted(installed, key=_plainness))


def _plainness(path):
    name = Path(path).stem.lower()
    styles = ("bold", "italic", "oblique", "mono", "serif", "thin", "light", "black", "condensed")
    return sum(style in name for style in styles), name, path


@functools.cache
def _characters(path):
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
    except (OSError, RuntimeError):  # a damaged file, or one of bitmaps only
        return frozenset()
    return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()
