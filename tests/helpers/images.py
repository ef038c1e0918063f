"""Folders of PNGs with an index, as a researcher has them."""

from pathlib import Path

import cv2
import numpy as np


def write_index(folder: Path, n_patients: int, seed: int = 0, size: int = 16) -> Path:
    """`n_patients` patients of one to three days each, every second one with a bright corner; returns
    index.csv."""
    rng, rows = np.random.default_rng(seed), ["patient,file,day,label"]
    folder.mkdir(parents=True)
    for i in range(n_patients):
        for day in range(int(rng.integers(1, 4))):
            image = rng.integers(0, 120, (size, size), dtype=np.uint8)
            image[:6, :6] += np.uint8(100 * (i % 2))
            cv2.imwrite(str(folder / f"{i}-{day}.png"), image)
            rows.append(f"patient-{i},{i}-{day}.png,{day},{i % 2}")
    (folder / "index.csv").write_text("\n".join(rows) + "\n")
    return folder / "index.csv"
