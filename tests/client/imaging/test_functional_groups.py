import numpy as np

from client.imaging.dicom import read_headers
from client.imaging.pixels import read_pixels
from common.plan import Window
from tests.helpers.dicom import enhanced, save


def test_every_frame_of_an_enhanced_ct_has_its_own_place_and_values(tmp_path):
    path = save(enhanced([30.0, 10.0, 20.0], [1, 2, 3]), tmp_path / "e.dcm")
    headers = read_headers(path, "ct").images
    assert [(h.frame, h.position) for h in headers] == [(0, 30.0), (1, 10.0), (2, 20.0)]
    assert len({h.uid for h in headers}) == 3
    window = Window(center=50.5, width=101.0)  # (x - 50) / 100 + 0.5
    for k, slope in enumerate([1, 2, 3]):
        expected = np.clip(np.arange(8 * k, 8 * k + 8).reshape(2, 4) * slope / 100, 0, 1)
        np.testing.assert_allclose(read_pixels(path, window, k), expected, atol=1e-6)
