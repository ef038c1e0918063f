import datetime
import email.utils

import httpx

from client.skew import clock_skew, describe_skew


def test_a_missing_or_odd_date_is_no_clock():
    for headers in ({}, {"date": "yesterday"}):
        assert clock_skew(httpx.Response(200, headers=headers)) is None


def test_a_clock_that_is_ahead_is_told_so():
    theirs = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=90)
    skew = clock_skew(httpx.Response(200, headers={"date": email.utils.format_datetime(theirs, usegmt=True)}))
    assert 89 <= skew <= 93
    assert describe_skew(skew).endswith("s ahead of the server's")
    assert describe_skew(-8.2) == "this machine's clock is 8 s behind the server's"
