"""The one tree of exceptions. Each carries a single line that a user can act on; `pneumofed.cli` turns it
into exit code 2."""


class PneumofedError(Exception):
    """A problem whose cure is in the user's hands: says what was found, what was expected and what to do."""


class ConfigError(PneumofedError):
    """A settings file or an override is missing, unreadable or wrong."""


class DataError(PneumofedError):
    """A cohort's sources cannot be used as they are (labels, classes, number of patients)."""


class WireError(PneumofedError):
    """A message does not hold exactly what the plan says it must hold."""


class RunError(PneumofedError):
    """A run cannot start or go on (directory in use, quorum missed, checkpoint of another plan)."""


class RefusedError(PneumofedError):
    """The site does not do what a message asks for: no approval, against its policy, or a replay. The text
    may leave the site."""


class LinkError(PneumofedError):
    """The other side cannot be reached, or does not let us in."""
