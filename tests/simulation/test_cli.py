"""The researcher's commands, as their user meets them."""

from tests.helpers.command import refused


def test_bad_plans_are_refused(here, plan, tmp_path):
    refused(here("simulate", "absent.yaml"), "absent.yaml: no such file")
    refused(here("simulate", plan, "--set", "training.lr=0.1"), "training.lr: unknown key")
    refused(here("simulate", plan, "--set", "rounds=many"), "rounds: found 'many', expected integer")
    refused(here("simulate", plan, "--set", "simulation.device=cuda:99"), "device: found 'cuda:99'")
    refused(here("simulate", plan, "--set", "strategy.options.mu=1"), "FedAvg has no 'mu'")


def test_the_phantom_alone(here, tmp_path):
    done = here("phantom", "--out", "p", "--sites", "2", "--patients", "3", "--seed", "1")
    assert "hospital-b" in done.stdout
    assert (tmp_path / "p/hospital-a/labels.csv").exists()
    refused(here("phantom", "--out", "p"), "exists already")
