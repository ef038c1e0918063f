"""Which of a model's tensors a method keeps at a site."""

from torch import nn

from common.methods import Stays
from common.plan import Plan


def personal_names(plan: Plan, model: nn.Module) -> frozenset[str]:
    """Names of the parameters that stay at the site and differ between sites; none for most methods."""
    names = [name for name, _ in model.named_parameters()]
    stays = plan.strategy.method.stays
    if stays is Stays.MODEL:
        return frozenset(names)
    beginnings: tuple[str, ...] = ()
    if stays is Stays.NORMS:
        beginnings = tuple(
            f"{at}."
            for at, module in model.named_modules()
            if isinstance(module, (nn.GroupNorm, nn.LayerNorm))
        )
    elif stays is Stays.HEAD:
        beginnings = ("head.",)
    return frozenset(name for name in names if beginnings and name.startswith(beginnings))
