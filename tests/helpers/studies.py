"""A study that runs in seconds."""

SMALL = {
    "question": "does width matter?",
    "seeds": [1, 2],
    "scenario": {
        "name": "small", "rounds": 1, "min_patients": 4, "input": {"size": 16, "max_frames": 3},
        "model": {"width": 4, "embedding": 8, "hidden": 8}, "training": {"batch_size": 8},
        "data": {"source": "phantom", "sites": 2, "patients": 20}, "simulation": {"threads": 1},
    },
    "variants": {"narrow, 4": {}, "wide": {"model.width": 8}},
}  # fmt: skip
