"""Every problem that a user can act on is one kind of exception; the code that a command ends with follows from that."""

import inspect

from common import errors


def test_every_error_of_ours_is_a_pneumofed_error_and_says_when_it_is_raised():
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    assert len(kinds) > 5
    for kind in kinds:
        assert issubclass(kind, errors.PneumofedError)
        assert str(kind("one line")) == "one line"
        assert kind.__doc__
    assert not issubclass(errors.PneumofedError, (OSError, ValueError))  # nobody catches one by accident
