import numpy as np
import pytest

from client.methods.memory import SiteMemory
from common.config import dump_yaml
from common.errors import ConfigError
from common.plan import Model, Strategy
from server.export import export_run
from tests.helpers.handed import PLAN
from tests.helpers.runs import deployed_run


def test_a_hospital_s_own_tensors_are_used_where_it_took_part(tmp_path):
    from client.prediction.model import load_model
    from client.settings import SiteFolder
    from common.handover import read_model

    plan = PLAN.model_copy(update={"strategy": Strategy(name="FedPer")})
    handed = read_model(export_run(deployed_run(tmp_path / "run", plan), tmp_path / "m", None))
    import torch

    site, cpu = SiteFolder(tmp_path / "site"), torch.device("cpu")
    own = {n: np.full_like(w, 0.5) for n, w in handed.weights.items() if n.startswith("head.")}
    SiteMemory(site.memory(plan.sha256) / "abc123").keep(plan.rounds, own)
    with_own = load_model(handed, cpu, site)
    assert all((p == 0.5).all() for n, p in with_own.named_parameters() if n.startswith("head."))
    for nobody in (None, SiteFolder(tmp_path / "elsewhere")):
        with pytest.raises(ConfigError, match="FedPer leaves the head at the hospitals, untrained elsewhere"):
            load_model(handed, cpu, nobody)
    (handed.folder / "plan.yaml").write_text(
        dump_yaml(plan.model_copy(update={"model": Model(width=8, embedding=8, hidden=8)}))
    )
    (handed.folder / "card.json").unlink()
    with pytest.raises(ConfigError, match="not those of the plan's model: tensor"):
        load_model(read_model(handed.folder), cpu)
