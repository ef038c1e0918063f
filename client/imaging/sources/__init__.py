"""Where sequences come from: a folder of DICOM files, images with an index, or a MedMNIST-style .npz. One
result."""

from client.imaging.sources.dicom_folder import DicomFolder, files_of_patient, patients_in
from client.imaging.sources.image_index import ImageIndex
from client.imaging.sources.npz_file import NpzFile
from client.imaging.sources.source import Source, fingerprint

__all__ = [
    "DicomFolder",
    "ImageIndex",
    "NpzFile",
    "Source",
    "files_of_patient",
    "fingerprint",
    "patients_in",
]
