"""An explanation as DICOM, for the viewers that a department has: a structured report, and the heat maps as
secondary captures (captures.py).

By highdicom. All are new series of the study that was judged last, and refer to the images that were looked
at.
"""

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
from pydicom.uid import UID, generate_uid

from client.imaging.dicom import open_dataset
from client.prediction.explain.captures import MAKER, MAPS, SERIES, label, make_captures
from client.prediction.explain.case import Explained
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
        DataError: the case is from a cohort, which keeps nothing that a DICOM object must name.
    """
    if not explained.case.headers:
        raise DataError(
            "a cohort holds no identifiers, so that nothing of it can be filed as DICOM; explain from the "
            "DICOM files"
        )
    images = [open_dataset(header.path, headers_only=True) for header in explained.case.headers]
    for image in images:
        _complete(image)
    paths = []
    for k, ds in enumerate(make_captures(explained, images), start=1):
        paths.append(folder / f"heat-{k:02d}.dcm")
        ds.save_as(paths[-1], enforce_file_format=True)
    report = folder / "sr.dcm"
    _report(explained, images).save_as(report, enforce_file_format=True)
    return [report, *paths]


def _complete(image: Dataset) -> None:
    """Attributes that must be there in what we write (type 2), empty where the source leaves them out."""
    for keyword in (
        "PatientBirthDate",
        "PatientSex",
        "PatientName",
        "StudyID",
        "StudyDate",
        "StudyTime",
        "AccessionNumber",
        "ReferringPhysicianName",
    ):
        if keyword not in image:
            setattr(image, keyword, "")


def _report(explained: Explained, images: Sequence[Dataset]) -> ComprehensiveSR:
    """TID 1500: one group for the sequence, one for each image. It lies in the study of its first evidence:
    of the last image."""
    observer = ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=generate_uid(), name=MAKER, manufacturer_name=MAKER
        ),
    )
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer),
        procedure_reported=PROCEDURES.get(images[-1].Modality, PROCEDURES[""]),
        imaging_measurements=_groups(explained, images),
        title=codes.DCM.ImagingMeasurementReport,
    )
    report = ComprehensiveSR(
        evidence=[images[-1], *images[:-1]], content=content, series_instance_uid=generate_uid(),
        series_number=SERIES + len(MAPS), sop_instance_uid=generate_uid(), instance_number=1,
        manufacturer=MAKER, is_complete=True, is_final=False,
    )  # fmt: skip
    label(report, f"Measurements: {explained.finding}"[:40])
    return report


def _groups(explained: Explained, images: Sequence[Dataset]) -> list[MeasurementsAndQualitativeEvaluations]:
    """What the model says is said once, of all images; an image has numbers, and no finding of its own."""
    finding, when = explained.finding, explained.when
    code = FINDINGS.get(finding, Code(finding[:16], OURS, finding))
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
    images: Sequence[Dataset],
    values: Sequence[tuple[Code, float]],
    said: Sequence[QualitativeEvaluation],
) -> MeasurementsAndQualitativeEvaluations:
    about = f"{explained.model}, plan {explained.plan[:12]}"
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=generate_uid(), identifier=name),
        algorithm_id=AlgorithmIdentification(
            name=f"{MAKER} CNN-LSTM ({RESEARCH_USE})", version=program(), parameters=[about]
        ),
        measurements=[Measurement(name=code, value=round(value, 6), unit=RATIO) for code, value in values],
        qualitative_evaluations=list(said) or None,
        source_images=[
            SourceImageForMeasurementGroup(UID(i.SOPClassUID), UID(i.SOPInstanceUID)) for i in images
        ],
    )
