"""The text that a plan's hash is over: the same for the same plan, in every version to come
(docs/developer.md)."""

import json

from common.config import Settings

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
"""What version 0.1 wrote out in every plan: never changed again. A key that came later is part of a plan, and
of its hash, where it says something else than its default. `training.augmentation.shift`: of a group within a
group."""


def canonical_json(tree: object) -> str:
    """JSON that depends on the values alone, not on key order or spacing."""
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def without_later(
    settings: Settings, tree: dict[str, object], always: frozenset[str], prefix: str = ""
) -> dict[str, object]:
    """`tree`, what `settings` say, loses the keys that came after version 0.1 and say their default, but for
    those of `always`."""
    for name, field in type(settings).model_fields.items():
        key, value = prefix + name, getattr(settings, name)
        if name not in tree or key in always:
            continue
        if isinstance(value, Settings) and isinstance(inner := tree[name], dict):
            without_later(value, inner, always, f"{key}.")
        if key not in FIRST_KEYS and value == field.get_default(call_default_factory=True):
            del tree[name]
    return tree
