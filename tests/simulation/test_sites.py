from simulation.study import load_study
from tests.helpers.tools import require_data


def test_a_real_set_is_dealt_out_unequally_in_size(here):
    path = require_data("pneumoniamnist", "pneumoniamnist_trainval.npz")
    _, study = load_study("heterogeneity")
    from simulation.sites import prepare_sites

    scenario = study.scenario_of("5 hospitals, unequal sizes", 1, False, {"data.path": str(path)})
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        sizes = sorted(len(site.open()) for site in prepare_sites(scenario, Path(folder)))
    assert sizes[-1] > 2 * sizes[0]
