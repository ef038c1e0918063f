"""The arms of a result by name: the federation's model, one trained on everybody's patients together, and
each hospital's own."""

FEDERATED, CENTRALISED = "federated", "centralised"
_LOCAL = "local-"


def local_arm(site: str) -> str:
    """The arm in which one hospital trains alone."""
    return f"{_LOCAL}{site}"


def arm_name(arm: str) -> str:
    """As people say it."""
    return f"{arm.removeprefix(_LOCAL)} alone" if arm.startswith(_LOCAL) else arm
