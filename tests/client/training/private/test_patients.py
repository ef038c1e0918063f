import numpy as np

from client.imaging.cohort import Cohort
from client.training.private.patients import in_chunks, sequences_by_patient
from tests.helpers.cohorts import CPU, make_cohort
from tests.helpers.private import private_plan


def test_a_patient_has_at_most_so_many_sequences(tmp_path):
    plan = private_plan()
    cohort = Cohort.open(make_cohort(tmp_path / "a", 12, 0, plan), make_cohort(tmp_path / "b", 12, 0, plan))
    cohort.patients = np.array([name.split(":")[1] for name in cohort.patients])  # each patient twice
    indices = np.arange(len(cohort))
    by_patient = sequences_by_patient(cohort, indices, 8)
    assert [len(g) for g in by_patient] == [2] * 12
    assert all(len(set(cohort.patients[g])) == 1 for g in by_patient)
    assert [len(g) for g in sequences_by_patient(cohort, indices, 1)] == [1] * 12
    chunks = list(in_chunks(cohort, by_patient, 5, CPU))
    assert [c.count for c in chunks] == [5, 5, 2]
    assert sum(len(c.owner) for c in chunks) == 24
