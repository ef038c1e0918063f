"""DICOM files made by hand."""

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

RAMP = np.array([[0, 100, 200, 300]], dtype=np.uint16)


def dataset(**tags):
    ds = Dataset()
    for name, value in tags.items():
        setattr(ds, name, value)
    return ds


def image(pixels, **tags):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid()
    ds.PatientID, ds.Modality, ds.AcquisitionDate, ds.AcquisitionTime = "P1", "CR", "20200131", "101112"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, int(pixels.dtype.kind == "i")
    ds.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    for name, value in tags.items():
        setattr(ds, name, value)
    return ds


def save(ds, path):
    ds.save_as(path, enforce_file_format=True)
    return path


def enhanced(positions, slopes):
    """An enhanced CT: each frame has its own position and rescaling, the orientation is shared."""
    ds = image(np.arange(8, dtype=np.uint16).reshape(2, 4), NumberOfFrames=len(positions), Modality="CT")
    ds.PixelData = np.arange(8 * len(positions), dtype="<u2").tobytes()
    shared = Dataset()
    shared.PlaneOrientationSequence = DicomSequence([Dataset()])
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    frames = []
    for position, slope in zip(positions, slopes, strict=True):
        groups, plane, values = Dataset(), Dataset(), Dataset()
        plane.ImagePositionPatient = [0, 0, position]
        values.RescaleSlope, values.RescaleIntercept = slope, 0
        groups.PlanePositionSequence, groups.PixelValueTransformationSequence = (
            DicomSequence([plane]),
            DicomSequence([values]),
        )
        frames.append(groups)
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = (
        DicomSequence([shared]),
        DicomSequence(frames),
    )
    return ds
