"""An explanation as DICOM, for the viewers that a department has: a structured report, and the heat maps as
secondary captures (captures.py).

By highdicom. All are new series of the study that was judged last, and refer to the images that were looked
at.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

from highdicom.sr import (
    AlgorithmIdentification,
    ComprehensiveSR,
    DeviceObserverIdentifyingAttributes,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    SourceImageForMeasurementGroup,
    TrackingIdentifier,
)
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID

from client.prediction.explain.captures import MAKER, MAPS, SERIES, label, make_captures
from client.prediction.explain.case import Explained, short
from client.prediction.explain.source import Source, sources, take_over
from common.errors import DataError
from common.handover import RESEARCH_USE
from common.protocol import program

FINDINGS = {"pneumonia": Code("233604007", "SCT", "Pneumonia")}
"""Findings with a code of SNOMED CT; others get one of ours."""
OURS = "99PNEUMOFED"
PRESENT, ABSENT = Code("52101004", "SCT", "Present"), Code("2667000", "SCT", "Absent")
PROCEDURES = {"CT": Code("24627-2", "LN", "CT Chest"), "": Code("30745-4", "LN", "XR Chest Views")}
PROBABILITY = Code("probability", OURS, "Probability of the finding, calibrated")
THRESHOLD = Code("threshold", OURS, "Probability from which the finding is called present")
ATTENTION = Code("attention", OURS, "Share of the pooling's attention")
INFLUENCE = Code("influence", OURS, "Fall of the logit without the image")
SCORE_AFTER = Code("score-after", OURS, "Logit after this image")
RATIO = Code("1", "UCUM", "no units")


def write_dicom(explained: Explained, folder: Path) -> list[Path]:
    """sr.dcm and heat-NN.dcm in `folder`.

    Raises:
        DataError: the case is from a cohort, which keeps nothing that a DICOM object must name; or its images
        lack it.
    """
    if not explained.case.headers:
        raise DataError(
            "a cohort holds no identifiers, so that nothing of it can be filed as DICOM; explain from the "
            "DICOM files"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # highdicom warns of an odd name, with the name
            made = _objects(explained)
            for name, ds in made.items():
                ds.save_as(folder / name, enforce_file_format=True)
    except (ValueError, TypeError, AttributeError, KeyError) as e:  # pydicom, highdicom: an odd header
        raise DataError(
            f"the headers of its images do not let a result be filed with them ({type(e).__name__}); mend "
            "them in the PACS, or explain without --dicom"
        ) from None
    return [folder / name for name in made]


def _objects(explained: Explained) -> dict[str, Dataset]:
    images = sources(explained)
    captures = enumerate(make_captures(explained, images), start=1)
    return {"sr.dcm": _report(explained, images), **{f"heat-{k:02d}.dcm": ds for k, ds in captures}}


def _report(explained: Explained, images: Sequence[Source]) -> ComprehensiveSR:
    """TID 1500: one group for the sequence, one for each image. It lies in the study of its first evidence:
    of the last image."""
    observer = ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=UID(explained.uid("observer")), name=MAKER, manufacturer_name=MAKER
        ),
    )
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer),
        procedure_reported=PROCEDURES.get(images[-1].ds.Modality, PROCEDURES[""]),
        imaging_measurements=_groups(explained, images),
        title=codes.DCM.ImagingMeasurementReport,
    )
    files = {image.ds.SOPInstanceUID: image.ds for image in (images[-1], *images[:-1])}
    report = ComprehensiveSR(
        evidence=list(files.values()), content=content, series_instance_uid=explained.uid("report", "series"),
        series_number=SERIES + len(MAPS), sop_instance_uid=explained.uid("report"), instance_number=1,
        manufacturer=MAKER, is_complete=True, is_final=False,
    )  # fmt: skip
    take_over(report, images[-1])
    label(report, f"Measurements: {explained.finding}"[:40])
    return report


def _groups(explained: Explained, images: Sequence[Source]) -> list[MeasurementsAndQualitativeEvaluations]:
    """What the model says is said once, of all images; an image has numbers, and no finding of its own."""
    finding, when = explained.finding, explained.when
    code = FINDINGS.get(finding, Code(short(finding), OURS, finding))
    values = [(PROBABILITY, explained.probability), (THRESHOLD, explained.threshold)]
    said = QualitativeEvaluation(name=code, value=PRESENT if explained.called else ABSENT)
    groups = [_group(explained, f"{finding}, all images", images, values, [said])]
    for k, image in enumerate(images):
        values = [
            (ATTENTION, float(when.attention[k])),
            (INFLUENCE, float(when.influence[k])),
            (SCORE_AFTER, float(when.running[k])),
        ]
        groups.append(_group(explained, f"image {k + 1}", [image], values, []))
    return groups


def _group(
    explained: Explained,
    name: str,
    images: Sequence[Source],
    values: Sequence[tuple[Code, float]],
    said: Sequence[QualitativeEvaluation],
) -> MeasurementsAndQualitativeEvaluations:
    about = f"{explained.model}, plan {explained.plan[:12]}, weights {explained.weights[:12]}"
    doubts = [f"of the images: {doubt}" for doubt in explained.doubts]
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=UID(explained.uid(name)), identifier=name),
        algorithm_id=AlgorithmIdentification(
            name=f"{MAKER} CNN-LSTM ({RESEARCH_USE})", version=program(), parameters=[about, *doubts]
        ),
        measurements=[Measurement(name=code, value=round(value, 6), unit=RATIO) for code, value in values],
        qualitative_evaluations=list(said) or None,
        source_images=[
            SourceImageForMeasurementGroup(UID(i.ds.SOPClassUID), UID(i.ds.SOPInstanceUID), i.frames)
            for i in images
        ],
    )
