"""What numbers were made with."""

import platform
from importlib.metadata import version


def versions() -> dict[str, str]:
    """Of the program, of Python, and of the libraries that numbers hang on."""
    names = ("pneumofed", "flwr", "torch", "opacus", "pydicom", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
