"""The keys of a settings file, from its type."""

from collections.abc import Iterator

from pydantic import BaseModel


def keys(model, prefix="") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        for nested in models_in(field.annotation):
            yield from keys(nested, f"{prefix}{name}.")


def models_in(annotation):
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for one in getattr(annotation, "__args__", ()) for m in models_in(one)]
