"""As taken, derived, captured, raw."""

import pytest
from pydicom import Dataset

from client.imaging.facts.image_kind import Kind, kind_of, kind_of_frame
from tests.helpers.dicom import dataset

CT, CR, DX, DX_RAW, CAPTURE = (f"1.2.840.10008.5.1.4.1.1.{n}" for n in ("2", "1", "1.1", "1.1.1", "7"))


@pytest.mark.parametrize(
    ("sop_class", "tags", "kind"),
    [
        (CT, {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]}, Kind.ORIGINAL),
        (CT, {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"]}, Kind.ORIGINAL),
        (CT, {}, Kind.ORIGINAL),
        (CT, {"ImageType": ["DERIVED", "PRIMARY", "AXIAL"]}, Kind.DERIVED),
        (CT, {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, Kind.NOT_A_SLICE),
        (CT, {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "CT_SOM5 MPR"]}, Kind.NOT_A_SLICE),
        (CT, {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "MIP"]}, Kind.NOT_A_SLICE),
        (CT, {"ImageType": ["DERIVED", "SECONDARY", "PROJECTION IMAGE"]}, Kind.NOT_A_SLICE),
        (CT, {"ImageType": ["DERIVED", "SECONDARY"]}, Kind.CAPTURE),
        (CAPTURE, {"ImageType": ["ORIGINAL", "PRIMARY"]}, Kind.CAPTURE),
        (f"{CAPTURE}.2", {}, Kind.CAPTURE),
        (CR, {"ConversionType": "WSD"}, Kind.CAPTURE),
        (CR, {"ConversionType": "DF"}, Kind.ORIGINAL),
        (DX, {"ImageType": ["DERIVED", "PRIMARY"]}, Kind.DERIVED),
        (DX, {"PresentationIntentType": "FOR PROCESSING"}, Kind.RAW),
        (DX_RAW, {}, Kind.RAW),
    ],
)
def test_each_witness_can_only_make_it_less(sop_class, tags, kind):
    ds = Dataset()
    ds.SOPClassUID = sop_class
    for name, value in tags.items():
        setattr(ds, name, value)
    assert kind_of(ds) == kind


@pytest.mark.parametrize(
    ("frame_type", "kind"),
    [
        (["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], Kind.ORIGINAL),
        (["DERIVED", "PRIMARY", "VOLUME", "NONE"], Kind.DERIVED),
        (["DERIVED", "PRIMARY", "VOLUME", "MAXIMUM"], Kind.NOT_A_SLICE),
        (["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"], Kind.NOT_A_SLICE),
        (None, Kind.ORIGINAL),
    ],
)
def test_a_frame_of_an_enhanced_object_has_a_type_of_its_own(frame_type, kind):
    assert kind_of_frame(dataset(FrameType=frame_type) if frame_type else Dataset()) is kind
