import sys
from pathlib import Path

# The examples are scripts that import their neighbours by name, as Python lets a script do.
sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
