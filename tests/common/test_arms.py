"""An arm has one name in files and one that people say."""

from common.arms import CENTRALISED, FEDERATED, arm_name, local_arm


def test_a_hospital_s_own_model_is_named_after_it():
    assert local_arm("st-mary") == "local-st-mary"
    assert arm_name(local_arm("local-hospital")) == "local-hospital alone"
    assert [arm_name(arm) for arm in (FEDERATED, CENTRALISED)] == [FEDERATED, CENTRALISED]


def test_no_hospital_s_arm_is_another_s():
    sites = ["a", "local-a", "federated", "centralised"]
    assert len({FEDERATED, CENTRALISED, *map(local_arm, sites)}) == 2 + len(sites)
