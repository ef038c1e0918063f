"""The plan of a model that is handed over."""

from common.plan import Input, Model
from tests.helpers.plans import small_plan

PLAN = small_plan(
    input=Input(size=32, min_frames=2, max_frames=4), model=Model(width=4, embedding=8, hidden=8)
)
