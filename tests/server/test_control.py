"""The control socket with a runner that is only played: for its owner alone, and every problem is one answer."""

import stat

import pytest

from common.errors import RunError
from common.results.status import RunState, Status
from server.ask import ask, ask_status
from server.control import ControlService
from server.runner import Begun, Wish
from server.settings import ServerFolder
from tests.helpers.deployment import wait_for
from tests.helpers.plans import small_plan


class PlayedRunner:
    """Remembers what it was asked for."""

    def __init__(self):
        self.asked = []

    def start(self, plan, wish, pretrained):
        self.asked.append((plan, wish, pretrained))
        return Begun("small", 0)

    def resume(self, run, wish):
        if run != "small":
            raise RunError(f"{run}: no such run; runs are: small")
        self.asked.append(wish)
        return Begun(run, 1)

    def cancel(self, run):
        self.asked.append(run)

    def stop(self):
        raise RunError("no run is going on")

    def status(self):
        return Status(
            running=None,
            runs={"small": RunState(state="finished", problem="", started="")},
            connected=["north"],
        )


def answers(folder):
    try:
        return ask_status(folder)
    except RunError:
        return None


@pytest.fixture
def control(tmp_path):
    folder, runner = ServerFolder(tmp_path / "s"), PlayedRunner()
    folder.path.mkdir(mode=0o700)
    service = ControlService(folder, runner)
    service.start()
    wait_for("the socket", lambda: answers(folder), 10)
    yield folder, runner
    service.stop()


def test_what_is_asked_reaches_the_runner_and_comes_back(control):
    folder, runner = control
    plan = small_plan()
    body = {"plan": plan.model_dump(mode="json"), "wish": {"sites": 2, "without": ["north"]}}
    assert ask(folder, "/run", body) == {"run": "small", "place": 0}
    assert runner.asked == [(plan, Wish(2, ("north",)), None)]
    assert ask(folder, "/resume", {"run": "small", "wish": {}}) == {"run": "small", "place": 1}
    assert ask(folder, "/cancel", {"run": "small"}) == {"run": "small"}
    assert runner.asked[1:] == [Wish(), "small"]
    assert ask_status(folder).connected == ["north"]


def test_a_problem_is_told_as_the_runner_said_it(control):
    folder, runner = control
    with pytest.raises(RunError, match=r"^no run is going on$"):
        ask(folder, "/stop", {})
    with pytest.raises(RunError, match="nothing: no such run"):
        ask(folder, "/resume", {"run": "nothing", "wish": {}})
    tree = {**small_plan().model_dump(mode="json"), "rounds": -1}
    with pytest.raises(RunError, match="rounds"):
        ask(folder, "/run", {"plan": tree, "wish": {"sites": None}})
    assert runner.asked == []


def test_only_the_owner_can_open_the_socket(control, tmp_path):
    folder, _ = control
    assert stat.S_IMODE(folder.socket.stat().st_mode) == 0o600
    open_folder = ServerFolder(tmp_path / "open")
    open_folder.path.mkdir(mode=0o755)
    with pytest.raises(
        RunError, match="its mode is 755, others could open the control socket; run: chmod 700"
    ):
        ControlService(open_folder, PlayedRunner())


def test_an_address_that_is_too_long_is_refused(tmp_path):
    folder = ServerFolder(tmp_path / ("x" * 100))
    folder.path.mkdir(mode=0o700)
    with pytest.raises(RunError, match="too long for a socket"):
        ControlService(folder, PlayedRunner())
