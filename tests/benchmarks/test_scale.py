"""benchmarks/scale: exponents of curves whose exponent is known."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def scale():
    return SimpleNamespace(**runpy.run_path(str(ROOT / "benchmarks/scale/run.py")))


def curve(of):
    return {str(n): {"cpu_s": of(n), "megabytes": 1.0 + n, "bytes": float(n)} for n in (3, 10, 30, 100, 300)}


@pytest.mark.parametrize("b", [0.0, 0.5, 1.0, 2.0])
def test_a_power_has_its_exponent(scale, b):
    assert scale.exponent(curve(lambda n: 0.02 * n**b), "cpu_s") == pytest.approx((b, b, b))


def test_the_interval_covers_nineteen_times_of_twenty(scale):
    rng, inside = np.random.default_rng(0), 0
    for _ in range(400):
        _, low, high = scale.exponent(curve(lambda n: n**1.2 * np.exp(rng.normal(0, 0.2))), "cpu_s")
        inside += low <= 1.2 <= high
    assert 368 <= inside <= 392


def test_the_picture_names_parts_and_exponents(scale):
    svg = scale.picture({"sites": curve(lambda n: n**2.0), "clients": curve(float)})
    assert svg.count("exponent 1.00 (1.00 to 1.00)") == 3
    assert "exponent 2.00 (2.00 to 2.00)" in svg
    assert ">clients<" in svg
