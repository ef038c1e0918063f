"""Trains the detector behind `client/imaging/facts/chest_like.py`, and says what it finds and misses.

`python benchmarks/chest_detector.py --data FOLDER` -> shares of images that are noted, by kind; of chests
from a hospital that training has not seen too. With `--write`, the network is written where ingest reads it.

Chests: Kermany's children, serial-cxr's adults, the phantom's; shifted, turned a little, stretched, cut off,
darkened. What is no chest is drawn (limbs, hands, discs, bars, noise) or made of chests (lying on their side,
upside down, negatives, shuffled). FOLDER holds kermany/kermany64_train.npz and serial-cxr/images/*.png.
"""

import argparse
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from client.imaging.cohort import Cohort
from client.imaging.facts.chest_like import FILE, LEAST, SIDE, features
from client.imaging.frames import ImageFile
from client.imaging.pixels import fit
from common.plan import Input
from simulation.scenario import PhantomData, Scenario
from simulation.sites import prepare_sites

Pixels = NDArray[np.float32]  # (64, 64) in [0, 1]
SIZE, HIDDEN, STEPS, EACH = 64, 32, 4000, 16_000


class Maker:
    """Draws and changes images, from one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def varied(self, image: Pixels) -> Pixels:
        """As another machine and another patient's place would show it."""
        rng = self.rng
        move = cv2.getRotationMatrix2D((32, 32), rng.uniform(-15, 15), rng.uniform(0.75, 1.45))
        move[:, 2] += rng.uniform(-8, 8, 2)
        stretch = np.exp(rng.uniform(-0.3, 0.3))
        move[0] *= stretch
        move[0, 2] += 32 * (1 - stretch)
        edge = float(image[0, 0]) if rng.random() < 0.5 else 0.0
        image = np.asarray(cv2.warpAffine(image, move, (SIZE, SIZE), borderValue=edge), np.float32)
        if rng.random() < 0.5:
            image = image[:, ::-1]
        image = np.clip(image, 0, 1) ** np.exp(rng.uniform(-1, 1)) * rng.uniform(0.5, 1) + rng.uniform(0, 0.3)
        image = self.framed(np.ascontiguousarray(image, np.float32))
        if rng.random() < 0.3:
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.5)), np.float32)
        return (image + rng.normal(0, rng.uniform(0, 0.05), image.shape)).astype(np.float32)

    def framed(self, image: Pixels) -> Pixels:
        """Collimated on a side, padded on two, a label in a place: each sometimes."""
        rng = self.rng
        if rng.random() < 0.3:
            side = np.rot90(image, rng.integers(4))  # a view: what is written there is in the image
            side[: rng.integers(2, 10)] = 0.0 if rng.random() < 0.7 else 1.0
        if rng.random() < 0.25:
            sides = image if rng.random() < 0.5 else image.T
            n = int(rng.integers(3, 12))
            sides[:n] = sides[-n:] = rng.choice([0.0, 1.0, rng.random()])
        if rng.random() < 0.3:
            top, left = rng.integers(0, 56, 2)
            image[top : top + rng.integers(3, 14), left : left + rng.integers(3, 20)] = rng.random()
        return image

    def limb(self) -> Pixels:
        """One or two long bones in soft tissue, a joint perhaps."""
        rng, image = self.rng, np.zeros((128, 128), np.float32)
        along = np.array([np.cos(a := rng.uniform(0, np.pi)), np.sin(a)])
        centre, width = 64 + rng.uniform(-15, 15, 2), rng.uniform(14, 34)
        line(image, centre - 90 * along, centre + 90 * along, rng.uniform(0.2, 0.5), 2 * width)
        for _ in range(rng.integers(1, 3)):
            at = centre + along[::-1] * (-1, 1) * rng.uniform(-0.5, 0.5) * width
            line(image, at - 90 * along, at + 90 * along, rng.uniform(0.6, 1), rng.uniform(6, 0.8 * width))
        if rng.random() < 0.6:
            cv2.circle(image, whole(centre), int(rng.uniform(8, 24)), rng.uniform(0.7, 1), -1)
        return soft(image, 2.0)

    def hand(self) -> Pixels:
        """A palm, a wrist and five fingers with bones in them."""
        rng, image = self.rng, np.zeros((128, 128), np.float32)
        tissue, centre = rng.uniform(0.3, 0.6), np.array([64.0, 88.0]) + rng.uniform(-8, 8, 2)
        axes = whole(rng.uniform(18, 32, 2))
        cv2.ellipse(image, whole(centre), axes, 0, 0, 360, tissue, -1)
        line(image, centre, np.array([centre[0], 127.0]), tissue, rng.uniform(20, 36))
        for angle in np.linspace(-1.1, 0.7, 5) + rng.uniform(-0.1, 0.1, 5):
            tip = centre + np.array([np.sin(angle), -np.cos(angle)]) * rng.uniform(45, 75)
            line(image, centre, tip, tissue, rng.uniform(8, 13))
            line(image, centre, tip, min(1.0, tissue + rng.uniform(0.2, 0.5)), rng.uniform(3, 6))
        return soft(image, 1.5)

    def disc(self) -> Pixels:
        """A head, a phantom for testing, a slice: rings and spots."""
        rng = self.rng
        image = np.full((128, 128), rng.uniform(0, 0.3), np.float32)
        centre = whole(rng.uniform(50, 78, 2))
        cv2.ellipse(image, centre, whole(rng.uniform(30, 58, 2)), 0, 0, 360, rng.uniform(0.4, 1), -1)
        if rng.random() < 0.7:
            cv2.ellipse(image, centre, whole(rng.uniform(15, 45, 2)), 0, 0, 360, rng.uniform(0.2, 0.9), -1)
        for _ in range(rng.integers(0, 5)):
            cv2.circle(image, whole(rng.uniform(20, 108, 2)), int(rng.uniform(3, 14)), rng.random(), -1)
        return soft(image, 2.0)

    def noise(self) -> Pixels:
        """Of any smoothness."""
        along = np.fft.fftfreq(SIZE)
        radius = np.hypot(*np.meshgrid(along, along))
        radius[0, 0] = 1
        spectrum = np.fft.fft2(self.rng.normal(size=(SIZE, SIZE))) / radius ** self.rng.uniform(0.3, 2)
        image = np.fft.ifft2(spectrum).real
        return ((image - image.min()) / np.ptp(image)).astype(np.float32)

    def bars(self) -> Pixels:
        """Rectangles, as in test patterns and captures of screens."""
        image = np.zeros((SIZE, SIZE), np.float32)
        for _ in range(self.rng.integers(1, 8)):
            x, y, u, v = map(int, self.rng.integers(0, SIZE, 4))
            cv2.rectangle(image, (x, y), (u, v), self.rng.random(), -1)
        return image

    def shuffled(self, chest: Pixels) -> Pixels:
        """Its quarters or sixteenths in another order."""
        n = int(self.rng.choice([2, 4]))
        parts = [part for row in np.split(chest, n) for part in np.split(row, n, axis=1)]
        order = self.rng.permutation(n * n).reshape(n, n)
        return np.block([[parts[k] for k in row] for row in order])

    @property
    def others(self) -> Mapping[str, Callable[[Pixels], Pixels]]:
        """What is no chest, by name; from a chest where one is needed."""
        return {
            "limb": lambda _: self.limb(), "hand": lambda _: self.hand(), "disc": lambda _: self.disc(),
            "noise": lambda _: self.noise(), "bars": lambda _: self.bars(),
            "on its side": lambda chest: np.rot90(chest, self.rng.choice([1, 3])),
            "upside down": lambda chest: chest[::-1],
            "negative": lambda chest: 1 - chest,
            "shuffled": self.shuffled,
        }  # fmt: skip


def whole(point: NDArray[np.float64]) -> tuple[int, int]:
    """For OpenCV."""
    return int(point[0]), int(point[1])


def line(
    image: Pixels, start: NDArray[np.float64], end: NDArray[np.float64], grey: float, width: float
) -> None:
    """Draw it."""
    cv2.line(image, whole(start), whole(end), grey, int(width))


def soft(image: Pixels, sigma: float) -> Pixels:
    """Blurred, and in the size of the others."""
    return np.asarray(cv2.resize(cv2.GaussianBlur(image, (0, 0), sigma), (SIZE, SIZE)), np.float32)


def phantom() -> Pixels:
    """(N, 64, 64): what ingest makes of a phantom's files."""
    with tempfile.TemporaryDirectory() as folder:
        scenario = Scenario(name="x", input=Input(size=SIZE), data=PhantomData(sites=1, patients=120))
        cohort: Cohort = prepare_sites(scenario, Path(folder))[0].open()
        return np.concatenate([cohort.frames(k) for k in range(len(cohort))]).astype(np.float32) / 255


def trained(chests: list[Pixels], seed: int = 0) -> nn.Sequential:
    """Chests of each source are as many."""
    torch.manual_seed(seed)
    make = Maker(seed)
    rng = make.rng

    def chest() -> Pixels:
        source = chests[rng.integers(len(chests))]
        return np.asarray(source[rng.integers(len(source))], np.float32)

    others = list(make.others.values())
    images = [make.varied(chest()) for _ in range(EACH)]
    images += [
        make.varied(np.ascontiguousarray(others[rng.integers(len(others))](chest()), np.float32))
        for _ in range(EACH)
    ]
    x = torch.from_numpy(np.stack([features(image) for image in images]))
    y = torch.cat([torch.ones(EACH), torch.zeros(EACH)])
    network = nn.Sequential(nn.Linear(SIDE * SIDE, HIDDEN), nn.ReLU(), nn.Dropout(0.2), nn.Linear(HIDDEN, 1))
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=0.05)
    for _ in range(STEPS):
        batch = torch.randint(len(x), (256,))
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(network(x[batch])[:, 0], y[batch]).backward()
        optimizer.step()
    return network.eval()


@torch.no_grad()
def noted(network: nn.Sequential, images: list[Pixels] | Pixels) -> float:
    """Share that is said not to look like a chest."""
    x = torch.from_numpy(np.stack([features(np.ascontiguousarray(i, np.float32)) for i in images]))
    return float((network(x)[:, 0] < LEAST).float().mean())


def report(network: nn.Sequential, chests: Mapping[str, Pixels]) -> None:
    """A line a kind."""
    for name, images in chests.items():
        print(f"  chests, {name:<28} {100 * noted(network, images):5.1f} % noted  ({len(images)})")
    make, some = Maker(99), np.concatenate([images[:200] for images in chests.values()])
    for name, other in make.others.items():
        images = [other(some[k % len(some)]) for k in range(600)]
        print(f"  {name:<36} {100 * noted(network, images):5.1f} % noted")


def main() -> None:
    """Once without the adults, for what another hospital's images do; and with all, on what was kept back."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with np.load(asked.data / "kermany" / "kermany64_train.npz") as data:
        children = data["images"].astype(np.float32) / 255
    files = sorted((asked.data / "serial-cxr" / "images").glob("*.png"))
    adults = np.stack([fit(ImageFile(f).read(), SIZE, 8) for f in files]).astype(np.float32) / 255
    drawn = phantom()
    print("trained without the adults:")
    report(trained([children[:4000], drawn[:200]]), {"adults of another hospital": adults})
    print("trained with all:")
    network = trained([children[:4000], adults[:160], drawn[:200]])
    kept = {"children": children[4000:], "adults": adults[160:], "phantom": drawn[200:]}
    report(network, kept)
    if asked.write:
        first, last = network[0], network[3]
        layers = {
            "w1": first.weight, "b1": first.bias, "w2": last.weight[0], "b2": last.bias,
        }  # fmt: skip
        np.savez(FILE, **{name: w.detach().numpy().astype(np.float16) for name, w in layers.items()})  # type: ignore[union-attr,operator]


if __name__ == "__main__":
    main()
