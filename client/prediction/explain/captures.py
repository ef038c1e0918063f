"""Heat maps as secondary captures, each with its meaning burnt into its pixels: whoever opens one alone, in
any viewer, reads what it says and what it does not say.

By highdicom. Series of the study that was judged last; each capture names the image that it is painted on.
The legend has no name, number or date of the patient.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from highdicom.sc import SCImage
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from client.prediction.explain.case import Explained
from client.prediction.explain.pictures import colours, drawn, overlay
from client.prediction.explain.source import Source, is_lossy, orientation_of, take_over
from common.handover import RESEARCH_USE
from common.protocol import program

MAKER = "pneumofed"
SIDE = 512
LETTERS = 72
"""Of a line of the legend, at most."""
NOT_JUDGED = "nobody judged this model on test patients"
LINE, EDGE = 22, 8
"""Pixels: height of a line of the legend, and its margin."""
SERIES = 9700
"""Number of our first series in a study: far behind a modality's own."""


@dataclass(frozen=True)
class Map:
    """One way of drawing heat, with a series of its own."""

    method: str  # of pictures.METHODS
    how: str  # in the legend
    each: bool  # one map an image; otherwise one of all images together, which is drawn over the last


MAPS = (
    Map("integrated gradients", "integrated gradients, this image's own map", each=True),
    Map("occlusion", "occlusion, one map of all images together", each=False),
)


def make_captures(explained: Explained, images: Sequence[Source]) -> list[SCImage]:
    """The captures of all maps, a series each, in the last image's study; `images` are what was judged, in
    order."""
    captures = []
    for number, kind in enumerate(MAPS):
        series = explained.uid(kind.method, "series")
        shown = range(len(images)) if kind.each else [len(images) - 1]
        for instance, k in enumerate(shown, start=1):
            captures.append(_capture(explained, images, kind, k, (series, SERIES + number, instance)))
    return captures


def _capture(
    explained: Explained, images: Sequence[Source], kind: Map, k: int, place: tuple[str, int, int]
) -> SCImage:
    series, number, instance = place
    rgb = cv2.cvtColor(picture(explained, kind, k), cv2.COLOR_BGR2RGB)
    ds = SCImage.from_ref_dataset(
        ref_dataset=images[-1].ds, pixel_array=np.ascontiguousarray(rgb), photometric_interpretation="RGB",
        bits_allocated=8, coordinate_system="PATIENT", series_instance_uid=series, series_number=number,
        sop_instance_uid=explained.uid(kind.method, k), instance_number=instance, manufacturer=MAKER,
        patient_orientation=("L", "F"), transfer_syntax_uid=ExplicitVRLittleEndian,
    )  # fmt: skip
    take_over(ds, images[-1])
    label(ds, f"{explained.side.capitalize()} {explained.finding}: {kind.method}"[:40])
    shown = images[k].ds  # what nobody knows of it is not said
    ds.PatientOrientation = orientation_of(shown)
    _tell_loss(ds, shown)
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.BodyPartExamined = "CHEST"
    ds.DerivationDescription = f"{kind.how}; over the image as the model saw it"
    if drawn := shown.get("BurnedInAnnotation"):
        ds.BurnedInAnnotation = drawn  # of the source: our legend identifies nobody (PS3.3 C.7.6.1.1.5)
    ds.RecognizableVisualFeatures = "NO"
    ds.ImageComments = "; ".join(legend(explained, kind, k, explained.finding))
    ds.SourceImageSequence = Items([_reference(images[k])])
    return ds


def _tell_loss(ds: Dataset, shown: Dataset) -> None:
    """What was once lost is not won back by storing it plainly (PS3.3 C.7.6.1.1.5)."""
    if is_lossy(shown):
        ds.LossyImageCompression = "01"
        for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if keyword in shown:
                ds[keyword] = shown[keyword]


def label(ds: Dataset, title: str) -> None:
    """What every object of ours says of itself."""
    ds.SeriesDescription = f"{title}. RESEARCH USE"
    ds.SoftwareVersions = program()
    ds.ManufacturerModelName = "CNN-LSTM"
    ds.ContentQualification = "RESEARCH"


def _reference(image: Source) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = image.ds.SOPClassUID
    item.ReferencedSOPInstanceUID = image.ds.SOPInstanceUID
    if image.frames:
        item.ReferencedFrameNumber = image.frames
    code = codes.DCM.SourceImageForImageProcessingOperation
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = code.value, code.scheme_designator
    purpose.CodeMeaning = code.meaning
    item.PurposeOfReferenceCodeSequence = Items([purpose])
    return item


def legend(explained: Explained, kind: Map, k: int, finding: str) -> list[str]:
    """Lines, each short enough for the capture's width; `finding` is how it is written there."""
    n, positions = len(explained.case.pixels), explained.case.positions
    chosen = f"threshold {explained.threshold:.3f}"
    cut = chosen if explained.threshold_chosen else "threshold 0.5, nobody chose one"
    when = f"{explained.unit} {positions[k]:.0f} of {positions[-1]:.0f}"
    so_far = float(explained.when.running[k])
    return [
        f"{finding}: probability {explained.probability:.3f} ({cut})",
        f"How sure: {explained.like or NOT_JUDGED}",
        f"The model says: {'YES, ' if explained.called else 'NO, no '}{finding}, by all {n} images together",
        f"Bright: what {explained.side.upper()} {finding}",
        f"Image {k + 1} of {n}, {when}; score up to here {so_far:+.1f}",
        f"Map: {kind.how}",
        *(
            textwrap.wrap(f"Of the images: {'; '.join(explained.doubts)}", LETTERS)
            if explained.doubts
            else []
        ),
        f"Model {explained.model} ({explained.weights[:12]}), pneumofed {program()}",
        RESEARCH_USE,
    ]


def picture(explained: Explained, kind: Map, k: int) -> NDArray[np.uint8]:
    """(SIDE + legend, SIDE, 3) BGR: the overlay, a scale of its colours, and the legend below."""
    lines = legend(explained, kind, k, drawn(explained.finding))
    canvas = np.zeros((SIDE + LINE * (len(lines) + 1) + 2 * EDGE, SIDE, 3), np.uint8)
    canvas[:SIDE] = overlay(explained, kind.method, k, SIDE)
    top, scale = SIDE + EDGE, colours()
    canvas[top : top + len(scale), 60 : 60 + scale.shape[1]] = scale
    _write(canvas, "none", 8, top + 11)
    _write(canvas, "most in this patient", 326, top + 11)
    for number, line in enumerate(lines, start=1):
        _write(canvas, line, 8, top + LINE * number + LINE - 4)
    return canvas


def _write(canvas: NDArray[np.uint8], text: str, left: int, bottom: int) -> None:
    size = 0.45
    while size > 0.3 and cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)[0][0] > SIDE - left - 4:
        size -= 0.02
    cv2.putText(canvas, text, (left, bottom), cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), 1, cv2.LINE_AA)
