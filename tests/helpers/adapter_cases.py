"""The adapters of `scripts/measure/adapters.py`, for tests."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

SCRIPT = Path(__file__).parents[2] / "scripts" / "measure" / "adapters.py"


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("measure_adapters", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their module up
    spec.loader.exec_module(module)
    return module
