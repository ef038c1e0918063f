"""The text that a plan's hash is over: the same for the same plan, in every version to come."""

import json

from common.config import Settings
from common.plan.first_keys import FIRST_KEYS


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
