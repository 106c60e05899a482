"""Makes the package `simulation` importable for its own tests, as `scripts/_simulate.py` does."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
