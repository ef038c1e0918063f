"""What a method keeps at a site from round to round, on its disk: personal weights, control variates. It
never leaves."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from common.errors import DataError
from common.files import write_atomically
from common.wire import Weights

KEPT = 2
"""Rounds that are kept: a server that comes back after a crash may ask for the last one again, from what was
there before it."""


class SiteMemory:
    """One site's tensors in one run. Raises DataError when used without a folder."""

    def __init__(self, folder: Path | None) -> None:
        self._place = folder

    @property
    def _folder(self) -> Path:
        if self._place is None:
            raise DataError(
                "the plan's method keeps tensors at the site, and its node has no folder for them (memory)"
            )
        return self._place

    def _files(self) -> dict[int, Path]:
        kept = {path.stem.removeprefix("round-"): path for path in self._folder.glob("round-*.safetensors")}
        return {int(number): path for number, path in kept.items() if number.isdecimal()}

    def before(self, round: int) -> Weights:
        """What the latest round before this one left; empty if there was none.

        Raises:
            DataError: the file is not readable.
        """
        earlier = {number: path for number, path in self._files().items() if number < round}
        if not earlier:
            return {}
        path = earlier[max(earlier)]
        try:
            kept: Weights = load_file(path)
        except (SafetensorError, OSError, ValueError) as e:
            raise DataError(
                f"{path}: this site's own weights cannot be read ({type(e).__name__}); restore or remove it"
            ) from None
        return kept

    def drop_after(self, round: int) -> None:
        """Remove what later rounds than this one left: at the server they never counted. What is left is kept
        by the next `keep`, however long ago it was."""
        for number, path in self._files().items():
            if number > round:
                path.unlink(missing_ok=True)

    def last(self) -> int:
        """The latest round that left something; 0 if none did."""
        return max(self._files(), default=0)

    def keep(self, round: int, tensors: Weights) -> None:
        """Write down what this round leaves, whole or not at all. Raises OSError."""
        write_atomically(self._folder / f"round-{round:06d}.safetensors", save(tensors))
        self.drop_after(round)  # of a server that was put back since
        files = self._files()
        for number in sorted(files)[:-KEPT]:
            files[number].unlink(missing_ok=True)
