"""What is different between two plans, for who approves the second."""

import json
from collections.abc import Iterator, Mapping

from common.plan.plan import Plan


def diff_plans(before: Plan, after: Plan) -> list[str]:
    """What changed, one line a value: `training.learning_rate: 0.05 -> 0.1`. Empty if the plans are equal."""
    old, new = dict(_leaves(before.model_dump(mode="json"))), dict(_leaves(after.model_dump(mode="json")))
    lines = []
    for key in sorted(old.keys() | new.keys()):
        if old.get(key, _ABSENT) != new.get(key, _ABSENT):
            lines.append(f"{key}: {_show(old.get(key, _ABSENT))} -> {_show(new.get(key, _ABSENT))}")
    return lines


_ABSENT = object()


def _show(value: object) -> str:
    return "(absent)" if value is _ABSENT else json.dumps(value, ensure_ascii=False)


def _leaves(tree: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
