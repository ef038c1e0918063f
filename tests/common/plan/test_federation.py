import pytest
from pydantic import ValidationError

from common.plan import Aggregation, Codec, Strategy


def test_an_option_is_the_plan_s_or_the_method_s_and_else_nothing():
    assert Strategy(name="FedAvgM").option("server_learning_rate") == 1.0
    assert Strategy(name="FedAvgM", options={"server_learning_rate": 2}).option("server_learning_rate") == 2.0
    assert Strategy(name="FedAvg").option("server_learning_rate") == 0.0


@pytest.mark.parametrize(
    ("group", "said"),
    [
        (lambda: Strategy(name="FedBest"), "found 'FedBest', expected one of FedAvg"),
        (lambda: Strategy(options={"beta": 0.1}), "FedAvg has no 'beta'; it has no options"),
        (lambda: Codec(top=0.5), "set name int8 or int4 too"),
        (lambda: Aggregation(secure=True), "secure and threshold go together"),
        (lambda: Aggregation(threshold=2), "secure and threshold go together"),
    ],
)
def test_what_a_group_cannot_mean_is_refused(group, said):
    with pytest.raises(ValidationError, match=said):
        group()


def test_a_codec_sends_integers_of_its_bits_of_either_sign():
    assert [2 * Codec(name=name).levels + 1 for name in ("int8", "int4")] == [2**8 - 1, 2**4 - 1]
