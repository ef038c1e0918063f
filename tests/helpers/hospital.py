"""A folder of DICOM files with its labels."""

import csv
from datetime import datetime, timedelta

import numpy as np

from tests.helpers.dicom import image, save


def hospital(folder, patients=3, images=3):
    """Files whose names run against their dates; the pixel value is the number of the visit."""
    folder.mkdir()
    for p in range(patients):
        for k in range(images):
            day = datetime(2020, 1, 1) + timedelta(days=2 * k)
            ds = image(
                np.full((8, 8), k, np.uint16), PatientID=f"P{p}", AcquisitionDate=day.strftime("%Y%m%d")
            )
            ds.WindowCenter, ds.WindowWidth = 128, 256
            save(ds, folder / f"{p}-{images - k}.dcm")
    labels(folder, {f"P{p}": p % 2 for p in range(patients)})
    return folder


def labels(folder, values):
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["patient", "pneumonia"], *values.items()])
