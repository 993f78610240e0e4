"""The modules of the lobby example, loaded from where they are."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parents[2] / "examples" / "lobby"


def load(name: str) -> ModuleType:
    """One of them, as if the program had just been started."""
    spec = importlib.util.spec_from_file_location(f"lobby_example_{name}", FOLDER / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where attrs looks for the names in annotations
    spec.loader.exec_module(module)
    return module


turf = load("turf")
sys.modules.setdefault("turf", turf)  # by this name the server imports it
