"""The keys that version 0.1 wrote out in every plan. The hashes of all plans are over these; a key that came
later is part of a plan, and of its hash, where it says something else than its default: so a plan keeps its
hash in every version to come (docs/developer.md)."""

FIRST_KEYS = frozenset(
    f"{section}.{key}" if section else key
    for section, keys in {
        "": "name seed findings min_patients rounds input model training privacy split strategy "
        "federation evaluation",
        "input": "modality size min_frames max_frames depth window",
        "input.window": "center width",
        "model": "encoder width embedding context time_gap l2_normalise hidden layers bidirectional "
        "recurrent pooling pretrained frozen_stages",
        "training": "epochs batch_size optimizer learning_rate momentum weight_decay clip_norm schedule "
        "class_weighting augmentation early_stopping",
        "training.schedule": "name warmup final",
        "training.augmentation": "shift rotate scale contrast brightness flip",
        "privacy": "unit epsilon noise_multiplier delta clip steps max_sequences augmentations chunk",
        "split": "validation test",
        "strategy": "name options",
        "federation": "participation quorum deadline_s max_update_norm",
        "evaluation": "every specificity threshold bootstrap",
    }.items()
    for key in keys.split()
)
"""Of a group within a group: `training.augmentation.shift`."""
