"""Which tensors a method keeps at a site."""

from torch import nn

from common.plan import Plan


def personal_names(plan: Plan, model: nn.Module) -> frozenset[str]:
    """Names of the parameters that stay at the site and differ between sites.

    FedBN: the scales and shifts of all norms (Li et al., 2021). FedPer: the head (Arivazhagan et al., 2019).
    Ditto: a whole model of the site's own (Li et al., 2021). Other methods: none.
    """
    names = [name for name, _ in model.named_parameters()]
    if plan.strategy.name == "FedBN":
        norms = tuple(f"{at}." for at, module in model.named_modules() if isinstance(module, nn.GroupNorm))
        return frozenset(name for name in names if name.startswith(norms))
    if plan.strategy.name == "FedPer":
        return frozenset(name for name in names if name.startswith("head."))
    return frozenset(names) if plan.strategy.name == "Ditto" else frozenset()
