"""An explanation as DICOM, for the viewers that a department has: a structured report, and the heat maps as
secondary captures.

By highdicom. Both are new series of the last image's study and refer to the images that were looked at.
"""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
from highdicom.sc import SCImage
from highdicom.sr import (
    AlgorithmIdentification,
    ComprehensiveSR,
    DeviceObserverIdentifyingAttributes,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    SourceImageForMeasurementGroup,
    TrackingIdentifier,
)
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from client.imaging.dicom import open_dataset
from client.prediction.explain.case import Explained
from client.prediction.explain.pictures import overlay
from common.errors import DataError
from common.handover import RESEARCH_USE

MAKER = "pneumofed"
SIDE = 512
SERIES = 9700
"""Number of our first series in a study: far behind a modality's own."""
FINDINGS = {"pneumonia": Code("233604007", "SCT", "Pneumonia")}
"""Findings with a code of SNOMED CT; others get one of ours."""
OURS = "99PNEUMOFED"
PROBABILITY = Code("probability", OURS, "Probability of the finding, calibrated")
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
    heat = _heat(explained, images)
    paths = []
    for k, ds in enumerate(heat, start=1):
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


def _heat(explained: Explained, images: Sequence[Dataset]) -> list[SCImage]:
    """Occlusion over each frame, in one series of the last study. Square as the model saw it."""
    series, last = generate_uid(), images[-1]
    pictures = []
    for k in range(len(images)):
        rgb = cv2.cvtColor(overlay(explained, "occlusion", k, SIDE), cv2.COLOR_BGR2RGB)
        ds = SCImage.from_ref_dataset(
            ref_dataset=last, pixel_array=np.ascontiguousarray(rgb), photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT", series_instance_uid=series, series_number=SERIES,
            sop_instance_uid=generate_uid(),
            instance_number=k + 1, manufacturer=MAKER, patient_orientation=("L", "F"),
            transfer_syntax_uid=ExplicitVRLittleEndian,
        )  # fmt: skip
        ds.SeriesDescription = f"Heat map: {explained.finding}. {RESEARCH_USE}"
        ds.ImageType = ["DERIVED", "SECONDARY"]
        ds.BodyPartExamined = "CHEST"
        ds.DerivationDescription = "Occlusion by the mirror image, over the image as the model saw it"
        ds.BurnedInAnnotation = "NO"
        ds.ImageComments = f"image {k + 1} of {len(images)}; {RESEARCH_USE}"
        pictures.append(ds)
    return pictures


def _report(explained: Explained, images: Sequence[Dataset]) -> ComprehensiveSR:
    """TID 1500: one group for the sequence, one for each image."""
    observer = ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=generate_uid(), name=MAKER, manufacturer_name=MAKER
        ),
    )
    algorithm = AlgorithmIdentification(
        name=f"{MAKER} CNN-LSTM ({RESEARCH_USE})", version=version("pneumofed")
    )
    code = FINDINGS.get(explained.finding, Code(explained.finding[:16], OURS, explained.finding))
    groups = [
        _group(
            f"{explained.finding}, all images",
            code,
            algorithm,
            images,
            [(PROBABILITY, explained.probability)],
        )
    ]
    when = explained.when
    for k, image in enumerate(images):
        values = [
            (ATTENTION, float(when.attention[k])), (INFLUENCE, float(when.influence[k])), (SCORE_AFTER,
            float(when.running[k])),
        ]  # fmt: skip
        groups.append(_group(f"image {k + 1}", code, algorithm, [image], values))
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion
        if images[-1].Modality == "CT"
        else Code("36643-5", "LN", "Chest X-ray 2 views"),
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    report = ComprehensiveSR(
        evidence=list(images), content=content, series_instance_uid=generate_uid(), series_number=SERIES + 1,
        sop_instance_uid=generate_uid(), instance_number=1, manufacturer=MAKER, is_complete=True,
        is_final=False,
    )  # fmt: skip
    report.SeriesDescription = f"Measurements: {explained.finding}. {RESEARCH_USE}"
    return report


def _group(
    name: str,
    finding: Code,
    algorithm: AlgorithmIdentification,
    images: Sequence[Dataset],
    values: Sequence[tuple[Code, float]],
) -> MeasurementsAndQualitativeEvaluations:
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=generate_uid(), identifier=name),
        finding_type=finding,
        algorithm_id=algorithm,
        measurements=[Measurement(name=code, value=round(value, 6), unit=RATIO) for code, value in values],
        source_images=[
            SourceImageForMeasurementGroup(UID(i.SOPClassUID), UID(i.SOPInstanceUID)) for i in images
        ],
    )
