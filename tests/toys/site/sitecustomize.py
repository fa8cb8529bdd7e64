"""With this folder in PYTHONPATH a Python process takes the toys' served code for released, as it takes kd's own."""

from pathlib import Path

from kd.base.hashing import file_digest
from kd.base.released import RELEASED

RELEASED |= {file_digest(path): path.parent.name for path in Path(__file__).parents[1].glob("*/served.py")}
