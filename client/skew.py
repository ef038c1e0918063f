"""How far this machine's clock is from the server's."""

import email.utils
import time

import httpx

MAX_SKEW_S = 5.0
"""How far our clock may be from the server's before it is called wrong. No round fails by it, but the ends of
certificates, the policy's hours and the times in the audit log rest on it."""


def describe_skew(skew: float) -> str:
    """In words."""
    return f"this machine's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the server's"


def clock_skew(response: httpx.Response) -> float | None:
    """Seconds that our clock is ahead of the server's (its Date header); None if it does not say."""
    try:
        return time.time() - email.utils.parsedate_to_datetime(response.headers["date"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return None
