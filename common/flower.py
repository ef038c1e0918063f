"""The one version of Flower that the services were made for: they stand on parts of it that it does not
promise to keep."""

from importlib.metadata import version

from common.errors import RunError

FLOWER = "1.41."


def require_flower() -> None:
    """Raise RunError if another Flower is installed."""
    installed = version("flwr")
    if not installed.startswith(FLOWER):
        raise RunError(f"found flwr {installed}, this program was made for {FLOWER}x; install that")
