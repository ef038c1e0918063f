import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from client.imaging.cohort import Cohort, build_cohort
from client.imaging.frames import Frame, InMemory
from client.imaging.outcome import Tally
from client.imaging.sequence import Collection, Sequence
from client.imaging.survey import survey
from common import wire
from common.plan import Input

PICTURE = np.zeros((16, 16), np.float32)
labels = st.sampled_from([0.0, 1.0, float("nan")])
sequences = st.lists(
    st.tuples(st.integers(0, 4), st.integers(1, 12), labels, labels), min_size=1, max_size=12
)


@settings(max_examples=30, deadline=None)
@given(sequences)
def test_counts_are_those_of_going_through_the_patients(tmp_path_factory, rows):
    folder, findings = tmp_path_factory.mktemp("c"), ("pneumonia", "effusion")
    made = [
        Sequence(
            f"p{p}", tuple(Frame(float(d), InMemory(PICTURE)) for d in range(n)), np.array([a, b], np.float32)
        )
        for p, n, a, b in rows
    ]
    build_cohort(folder / "c", Collection(made, Tally()), Input(size=16), findings, b"k", "s")
    cohort = Cohort.open(folder / "c")
    found = survey(cohort, np.arange(len(cohort)))
    assert tuple(found) == wire.query_numbers(findings)[len(wire.SPLITS) :]
    patients = {p for p, *_ in rows}
    longest = {p: max(n for q, n, *_ in rows if q == p) for p in patients}
    for name, (least, most) in zip(wire.LENGTHS, ((1, 1), (2, 4), (5, 8), (9, 99)), strict=True):
        assert found[name] == sum(least <= n <= most for n in longest.values())
    for k, finding in enumerate(findings):
        said = {p: {row[2 + k] for row in rows if row[0] == p} for p in patients}
        assert found[wire.positive(finding)] == sum(1.0 in values for values in said.values())
        assert found[wire.negative(finding)] == sum(
            1.0 not in values and 0.0 in values for values in said.values()
        )
