from common.config import dump_yaml
from tests.helpers.command import refused
from tests.helpers.plans import small_plan


def test_bad_input_is_one_line(here, coordinator, tmp_path):
    (tmp_path / "rubbish").write_text("rubbish")
    (tmp_path / "plan.yaml").write_text(dump_yaml(small_plan()))
    cases = {
        ("run", "rubbish"): "expected `key: value` lines",
        ("survey", "x"): "no site of such a run has answered yet",
        ("export", "x"): "x",
        **dict.fromkeys(
            [("run", "plan.yaml"), ("status",), ("stop",), ("cancel", "x"), ("resume", "x")],
            "no server is running",
        ),
    }
    for command, said in cases.items():
        refused(here("server", *command, "--dir", str(coordinator.path)), said)
        if command[0] != "export" and command[1:] != ("rubbish",):
            refused(here("server", *command, "--dir", str(tmp_path)), "not a server's folder")
