"""The two kinds of arrays that signatures name; docstrings say the shape."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
"""single precision: vectors, features, scores as they are stored"""
Matrix = NDArray[np.floating[Any]]
"""any precision: what the mathematics takes"""
