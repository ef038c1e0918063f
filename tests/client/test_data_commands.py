from tests.helpers.command import refused
from tests.helpers.plans import small_plan

PLAN = small_plan()


def test_bad_input_is_one_line(here, asked):
    folder = str(asked.path)
    cases = {
        ("ingest", "feed"): "no such plan",
        ("ingest", PLAN.sha256[:8]): "data.dicom: expected the folder",
        ("pull", PLAN.sha256[:8]): "data.pacs",
        ("receive",): "data.pacs",
        ("forget", "P1"): "nothing of this patient was found here",
    }
    for command, said in cases.items():
        refused(here("client", *command, "--dir", folder), said)
