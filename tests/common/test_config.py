import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config import load_yaml, parse_yaml
from common.errors import ConfigError
from common.plan import Plan
from simulation.scenario import DicomData, Scenario


def load(tmp_path, text, model=Plan, overrides=()):
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    return load_yaml(path, model, overrides)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: x\ntraning: {}", "traning: unknown key (did you mean training?)"),
        (
            "name: x\ntraining: {lerning_rate: 1}",
            "training.lerning_rate: unknown key (did you mean learning_rate?)",
        ),
        (
            "name: x\ntraining: {learning_rate: -1}",
            "training.learning_rate: found -1, expected greater than 0",
        ),
        ("name: x\ntraining: {learning_rate: fast}", "training.learning_rate: found 'fast', expected number"),
        ("name: x\ntraining: {epochs: 1.5}", "training.epochs: found 1.5, expected integer"),
        ("name: x\nrounds: '3'", "rounds: found '3', expected integer"),
        (
            "name: x\nmodel: {pooling: max}",
            "model.pooling: found 'max', expected 'last', 'mean' or 'attention'",
        ),
        ("name: x\nstrategy: {name: FedBest}", "found 'FedBest', expected one of FedAvg"),
        ("name: x\nfindings: [a, a]", "expected distinct names"),
        ("name: x\nsplit: {test: 0.6, validation: 0.5}", "validation + test = 1.1, expected less than 1"),
        ("name: x\ntraining: {learning_rate: .inf}", "training.learning_rate"),
        ("rounds: 3", "name: missing"),
        ("- 1", "found a list at the top"),
        ("", "found nothing at the top"),
        ("name: x\nname: y", "the key 'name' stands twice"),
        ("name: [", "not readable as YAML"),
        ("1: x", "found the key 1, expected text"),
        ("name: x\nrounds: 010", "line 2: not readable as YAML: found 010, expected a number without"),
        ("name: x\nmin_patients: -0_7", "found -0_7, expected a number without"),
        ("name: x\nrounds: 1:30", "found 1:30, expected a number without colons"),
        ("name: x\nsplit: {test: 1:30.5}", "found 1:30.5, expected a number without colons"),
        ("name: !!python/object/apply:os.system [ls]", "not readable as YAML"),
    ],
)
def test_a_wrong_plan_is_refused_in_one_line_by_file_and_key(tmp_path, text, said):
    with pytest.raises(ConfigError) as e:
        load(tmp_path, text)
    assert said in str(e.value)
    assert str(tmp_path / "plan.yaml") in str(e.value)
    assert "\n" not in str(e.value)


def test_numbers_are_what_they_look_like(tmp_path):
    for text, rounds in (("10", 10), ("+10", 10), ("1_0", 10), ("0x10", 16)):
        assert load(tmp_path, f"name: x\nrounds: {text}").rounds == rounds
    assert load(tmp_path, "name: '010'\nseed: 0").name == "010"
    for text, share in (("0.05", 0.05), ("5e-2", 0.05), ("0", 0)):
        assert load(tmp_path, f"name: x\nsplit: {{test: 0.2, validation: {text}}}").split.validation == share


def test_a_line_stays_short_however_much_is_wrong(tmp_path):
    many = "".join(f"zzz{n}: 1\n" for n in range(1000))
    with pytest.raises(ConfigError) as e:
        load(tmp_path, f"name: x\n{many}")
    said = str(e.value)
    assert said.count("known keys: ") == 1
    assert said.endswith("zzz7: unknown key; and 992 more")
    assert len(said) < 1500


def test_what_is_no_file_or_too_long_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(ConfigError, match="not a regular file"):
            load_yaml(path, Plan)
    with (tmp_path / "long").open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(ConfigError, match="found 1000000000000 bytes, expected YAML of"):
        load_yaml(tmp_path / "long", Plan)


def test_all_problems_are_named_at_once(tmp_path):
    with pytest.raises(ConfigError, match=r"seed.*rounds"):
        load(tmp_path, "name: x\nseed: -1\nrounds: -1")


def test_a_key_of_a_union_is_named_as_the_user_wrote_it(tmp_path):
    with pytest.raises(ConfigError) as e:
        load(tmp_path, "name: x\ndata: {source: npz, pth: a.npz}", Scenario)
    assert "data.path: missing" in str(e.value)
    assert "data.pth: unknown key (did you mean path?)" in str(e.value)


def test_overrides_are_typed_like_the_file(tmp_path):
    plan = load(
        tmp_path, "name: x", overrides=["training.learning_rate=1e-3", "seed=4", "training.clip_norm=null"]
    )
    assert plan.training.learning_rate == 0.001
    assert plan.seed == 4
    assert plan.training.clip_norm is None


def test_another_kind_of_data_takes_none_of_the_keys_of_the_one_before(tmp_path):
    path = tmp_path / "scenario.yaml"
    path.write_text("name: x\ndata: {source: phantom, sites: 4, patients: 60}\n")
    for overrides in (["data.path=/x", "data.source=dicom"], ["data.source=dicom", "data.path=/x"]):
        assert load_yaml(path, Scenario, overrides).data == DicomData(path="/x")
    assert load_yaml(path, Scenario, ["data.source=phantom"]).data.sites == 4
    with pytest.raises(ConfigError, match=r"data\.path: missing"):
        load_yaml(path, Scenario, ["data.source=dicom"])


@pytest.mark.parametrize("override", ["seed", "=3", "name.sub=3"])
def test_a_malformed_override_is_refused(tmp_path, override):
    with pytest.raises(ConfigError, match="--set"):
        load(tmp_path, "name: x", overrides=[override])


def test_a_missing_or_unreadable_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        load_yaml(tmp_path / "absent.yaml", Plan)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_yaml(tmp_path, Plan)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_yaml(tmp_path / "binary.yaml", Plan)


@given(st.text(max_size=60))
def test_any_text_parses_or_is_refused_in_words(text):
    try:
        parse_yaml(text, "here")
    except ConfigError as e:
        assert str(e).startswith("here")


def test_what_a_file_says_now_counts_whatever_was_read_of_it_before(tmp_path):
    """Same length, and the same times: what is kept of a file hangs on its text alone."""
    path = tmp_path / "plan.yaml"
    for text, rounds in (("rounds: 11\n", 11), ("rounds: 12\n", 12), ("rounds: 11\n", 11)):
        path.write_text(f"name: a\n{text}")
        os.utime(path, (1, 1))
        assert load_yaml(path, Plan).rounds == rounds
        assert load_yaml(path, Plan, ["rounds=7"]).rounds == 7
        assert isinstance(load_yaml(path, Scenario), Scenario)  # of another kind, from the same text
    path.write_text("name: a\nrounds: x\n")
    for _ in range(2):
        with pytest.raises(ConfigError, match="rounds: found 'x'"):
            load_yaml(path, Plan)
