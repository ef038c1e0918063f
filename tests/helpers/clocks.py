"""A clock that a test moves."""


class Clock:
    """Stands still until `now` is changed; seconds."""

    def __init__(self, now: float = 0.0):
        self.now = now

    def __call__(self) -> float:
        return self.now
