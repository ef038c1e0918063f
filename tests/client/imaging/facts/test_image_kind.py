"""As taken, derived, captured, raw."""

import pytest
from pydicom import Dataset

from client.imaging.facts.image_kind import Kind, kind_of

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
