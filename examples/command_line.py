"""What the commands of the examples share: flags with two sets of defaults, text to read, a folder to write."""

import argparse
import importlib.util
import json
import sys
from pathlib import Path

from keras_tfm import text


def make_parser(description, small, large):
    """A parser with a flag for each hyper-parameter; `small` and `large` are their values without and with a corpus."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in small.items():
        kind = argparse.BooleanOptionalAction if isinstance(value, bool) else None
        options = {"action": kind} if kind else {"type": type(value)}
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, **options, help=f"default: {value}, with a corpus {large[name]}")
    return parser


def fill_defaults(args, defaults):
    """Gives the flags that were not named their defaults."""
    for name, value in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


def input_lines(argument):
    """The lines to work on: of a file, of standard input for "-", or the argument itself."""
    if argument == "-":
        return sys.stdin.read().splitlines()
    return text.read_lines(argument) if Path(argument).is_file() else [argument]


def require(*modules):
    """Ends before any work is done where an optional module is missing."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise SystemExit(f"{' and '.join(missing)} missing: pip install keras_tfm[text,vis]")


def write_settings(args):
    """Writes the flags into the folder `args.output`, which is made when missing, and returns the folder.

    A run that begins anew removes the checkpoints of earlier ones, so that `--resume` never meets them.
    """
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    for checkpoint in [] if args.resume else folder.glob("*.npz"):
        checkpoint.unlink()
    (folder / "settings.json").write_text(json.dumps(vars(args), ensure_ascii=False), encoding="utf-8")
    return folder


def read_settings(folder):
    """Reads the flags that a model was trained with."""
    path = Path(folder, "settings.json")
    if not path.is_file():
        raise SystemExit(f"{path} does not exist: train a model first, or name its folder")
    return argparse.Namespace(**json.loads(path.read_text(encoding="utf-8")))


def verbosity():
    """A progress bar for a person; a file has the lines of the learning curve."""
    return 1 if sys.stdout.isatty() else 0
