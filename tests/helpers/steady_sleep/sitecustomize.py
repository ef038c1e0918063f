"""For processes under faketime whose monotonic clock is left alone: its clock_nanosleep, by which Python sleeps, then
refuses (EINVAL), and with a faked monotonic clock every wait with a deadline would last as long as the clock is ahead."""

import select
import time

time.sleep = lambda seconds: select.select((), (), (), seconds)
