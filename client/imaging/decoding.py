"""From sequences to pixels, for training and prediction alike: what can be decoded, and whether that is
enough."""

from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from client.imaging.facts.chest_like import SIDE, looks_like_chest
from client.imaging.frames import Frame, Image, ImageFile
from client.imaging.outcome import Reason, Skipped, Tally
from client.imaging.pixels import DicomPixels, fit
from client.imaging.reader import frames_of
from client.imaging.sequence import Sequence
from common.arrays import Pixels
from common.plan import Input


@dataclass(frozen=True)
class Decoded:
    """One patient's sequences with the images that can be read."""

    sequences: Seq[Sequence]
    pixels: Mapping[Image, Pixels]  # (size, size) each, in order

    def usable(self, sequence: Sequence, contract: Input, tally: Tally) -> tuple[Frame, ...]:
        """The sequence's readable frames; none, and counted, if they are fewer than the contract asks for, or
        of the visit that the labels are about there is none: its past alone does not show it."""
        frames = tuple(frame for frame in sequence.frames if frame.image in self.pixels)
        if not any(frame.image in self.pixels for frame in sequence.own or frames):
            tally.add(Reason.NO_FRAMES)
        elif len(frames) < contract.min_frames:
            tally.add(Reason.TOO_SHORT)
        else:
            return frames
        return ()


def decode(
    patients: Seq[Seq[Sequence]], contract: Input, tally: Tally, known: Mapping[Image, Pixels] | None = None
) -> Iterator[Decoded]:
    """Every patient's images in the contract's size and depth; one that several sequences share is read once.

    Which images make a sequence (`sequence.choose`) was decided before: a broken one is not replaced by
    another.

    Args:
        known: images that need not be read again.
    """
    distinct = [list(dict.fromkeys(f for s in sequences for f in s.frames)) for sequences in patients]
    pixels_of = _images(
        [frame.image for frames in distinct for frame in frames], contract, known or {}, tally
    )
    for sequences, frames in zip(patients, distinct, strict=True):
        pixels: dict[Image, Pixels] = {}
        for frame in frames:
            one = next(pixels_of)
            if isinstance(one, Skipped):
                tally.add_files(one.reason, [frame.path])
            else:
                pixels[frame.image] = one
                if _is_judged(contract) and not looks_like_chest(one):
                    tally.add_files(Reason.UNLIKE_CHEST, [frame.path])
        yield Decoded(sequences, pixels)


def _is_judged(contract: Input) -> bool:
    return contract.modality == "xray" and contract.size >= SIDE


DARK = 1 / 16
"""12 bits in a file of 16 use no more."""


def _images(
    wanted: list[Image], contract: Input, known: Mapping[Image, Pixels], tally: Tally
) -> Iterator[Pixels | Skipped]:
    """Each image, in order. DICOM is read in processes of its own (reader.py)."""
    fresh = frames_of([i for i in wanted if isinstance(i, DicomPixels) and i not in known], contract)
    for image in wanted:
        if image in known:
            yield known[image]
        elif isinstance(image, DicomPixels):
            yield next(fresh)
        else:
            try:
                grey = image.read()
                if isinstance(image, ImageFile) and grey.max() <= DARK:
                    tally.add_files(Reason.DARK, [image.path])
                yield fit(grey, contract.size, contract.depth)
            except Skipped as skipped:
                yield skipped
