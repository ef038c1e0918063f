"""What three sites say of their patients; two keep some of it to themselves."""

from common import wire

NAMES = wire.query_numbers(("pneumonia",))
TOLD = {
    "north": {**dict.fromkeys(NAMES, 10.0), wire.DEVICE: "cpu"},
    "south": {
        **dict.fromkeys(NAMES, 20.0),
        wire.N_TEST: float("nan"),
        "length-9+": float("nan"),
        wire.DEVICE: "cpu",
    },
    "west": {
        **dict.fromkeys(NAMES, 30.0),
        "length-9+": float("nan"),
        wire.N_TEST: float("nan"),
        wire.DEVICE: "cuda",
    },
}
