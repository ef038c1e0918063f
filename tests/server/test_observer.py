import inspect

from common.results.rounds import RoundReport
from server.observer import Observer, PassingOn, Silent


class Noting(Silent):
    def __init__(self):
        self.told = []

    def __getattribute__(self, name):
        if name in Observer.__dict__ and not name.startswith("_"):
            return lambda *args: self.told.append((name, args))
        return super().__getattribute__(name)


def test_who_passes_on_tells_all_that_it_is_told():
    """Each message that there is, in order; none is kept back, changed or told twice."""
    report = RoundReport(round=1, bytes_down=0, bytes_up=0, sites={}, failed={})
    messages = {
        "gathering": (["a"], 2, {"b": "away"}), "started": (["a", "b"], 0, 3), "asked": (["a"], "train"),
        "replied": ("a", "train"), "finished_round": (report,),
    }  # fmt: skip
    of_observers = {n for n, _ in inspect.getmembers(Observer, inspect.isfunction) if not n.startswith("_")}
    assert set(messages) == of_observers
    noting = Noting()
    for name, args in messages.items():
        getattr(PassingOn(noting), name)(*args)
        assert getattr(Silent(), name)(*args) is None
    assert noting.told == list(messages.items())
