"""The scripts of `scripts/measure`, whose cases tests run too."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

MEASURE = Path(__file__).parents[2] / "scripts" / "measure"


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"measure_{name}", MEASURE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their module up
    spec.loader.exec_module(module)
    return module
