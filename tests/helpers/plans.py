"""Plans and scenarios whose rounds take a fraction of a second."""

from hypothesis import strategies as st

from common.plan import Federation, Input, Model, Plan, Training
from simulation.scenario import Machine, Scenario


def small_plan(**changes) -> Plan:
    """A plan whose rounds take a fraction of a second."""
    values = {
        "name": "small",
        "seed": 5,
        "rounds": 2,
        "min_patients": 4,
        "input": Input(size=16, max_frames=4),
        "model": Model(width=4, embedding=8, hidden=8),
        "training": Training(batch_size=4, learning_rate=0.05),
    }
    return Plan(**{**values, **changes})


def small_scenario(**changes) -> Scenario:
    """A scenario of such a plan; one thread, as the other test workers need the other cores."""
    values = {k: getattr(small_plan(), k) for k in Plan.model_fields}
    return Scenario(**{**values, "simulation": Machine(threads=1), **changes})


def deployed_plan(**changes) -> Plan:
    """A plan whose sites may be late: two of three are enough."""
    return small_plan(**{"federation": Federation(quorum=0.6, deadline_s=120.0), **changes})


PRIVATE = {
    "name": "private", "seed": 3, "rounds": 3, "min_patients": 4, "input": {"size": 16, "max_frames": 3},
    "model": {"width": 4, "embedding": 8, "hidden": 8}, "training": {"batch_size": 16, "learning_rate": 0.1},
    "privacy": {"epsilon": 8.0, "delta": 1e-3, "steps": 4}, "data": {"source": "phantom", "sites": 2, "patients": 60},
    "simulation": {"arms": ["local_only"], "threads": 1},
}  # fmt: skip

PLANS = st.builds(
    Plan,
    name=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True),
    seed=st.integers(0, 2**32 - 1),
    rounds=st.integers(1, 1000),
    training=st.builds(
        Training,
        learning_rate=st.floats(1e-9, 1e3),
        clip_norm=st.none() | st.floats(1e-3, 1e3),
        optimizer=st.sampled_from(["sgd", "adam", "adamw"]),
    ),
    model=st.builds(
        Model,
        width=st.integers(4, 512),
        bidirectional=st.booleans(),
        pooling=st.sampled_from(["last", "mean"]),
    ),
    input=st.builds(Input, label=st.sampled_from(["patient", "visit"])),
)
