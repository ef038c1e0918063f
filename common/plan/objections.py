"""What speaks against a plan though each group of its keys is fine: what in one does not go with another."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from common.methods import Stays
from common.plan.model import LEAST_SIZE

if TYPE_CHECKING:
    from common.plan.plan import Plan


def objections(plan: "Plan") -> Iterator[str]:
    """Each in a line that says what to do; none against a plan that can be run."""
    yield from _to_the_frames(plan)
    yield from _to_training(plan)
    yield from _to_final_scores(plan)
    yield from _to_the_best_round(plan)
    yield from _to_the_strategy(plan)
    yield from _to_secure_sums(plan)


def _to_the_frames(plan: "Plan") -> Iterator[str]:
    encoder, size, patch = plan.model.encoder, plan.input.size, plan.model.patch
    if size < (least := LEAST_SIZE.get(encoder, 0)):
        yield (
            f"model.encoder {encoder} halves a frame five times: found input.size {size}, expected at least "
            f"{least}"
        )
    if encoder == "vit_tiny" and size % patch:
        yield f"model.patch: found {patch}, which does not divide input.size {size}"


def _to_training(plan: "Plan") -> Iterator[str]:
    """Under privacy, of all that looks at patients without noise."""
    if plan.training.early_stopping is not None and plan.split.validation == 0.0:
        yield "training.early_stopping needs validation patients, found split.validation 0"
    if plan.privacy is None:
        return
    if plan.training.early_stopping is not None:
        yield "training.early_stopping looks at validation patients without noise; leave it out with privacy"
    if plan.training.class_weighting != "none":
        yield "training.class_weighting counts patients without noise; leave it out with privacy"
    if plan.privacy.threshold and plan.split.validation == 0.0:
        yield "privacy.threshold needs validation patients, found split.validation 0"


def _to_final_scores(plan: "Plan") -> Iterator[str]:
    evaluation, pretrained = plan.evaluation, plan.model.pretrained
    if evaluation.final and plan.privacy is not None:
        yield (
            "evaluation.final tells scores without noise; leave it out with privacy (each hospital can judge "
            "the model for itself: pneumofed client gain)"
        )
    if evaluation.final and plan.split.validation == 0.0:
        yield "evaluation.final needs validation patients, found split.validation 0"
    if plan.rounds == 0 and (not evaluation.final or pretrained is None or evaluation.alone):
        yield (
            "found rounds 0, which judges a finished model: expected evaluation.final, model.pretrained (the "
            "SHA-256 of its model.safetensors), and no evaluation.alone"
        )
    if evaluation.alone and pretrained is not None:
        yield "evaluation.alone: sites do not have the pretrained weights; leave one of them out"


def _to_the_best_round(plan: "Plan") -> Iterator[str]:
    if plan.evaluation.select == "last":
        return
    if plan.split.validation == 0.0 or plan.privacy is not None:
        found = "split.validation 0" if plan.privacy is None else "privacy, under which no site tells any"
        yield f"evaluation.select best goes by validation scores, found {found}"
    if plan.strategy.method.stays not in {Stays.NOTHING, Stays.CONTROL}:
        yield (
            f"evaluation.select best: with strategy {plan.strategy.name} sites keep weights of their own of "
            "the last round; leave one of them out"
        )


def _to_the_strategy(plan: "Plan") -> Iterator[str]:
    name, method, training = plan.strategy.name, plan.strategy.method, plan.training
    if plan.privacy is not None and not method.private:
        yield (
            f"strategy {name} keeps tensors at the sites that privacy does not account for; leave one of "
            "them out"
        )
    if method.plain_sgd and (training.optimizer != "sgd" or training.momentum != 0.0):
        yield (
            f"strategy {name} is defined for plain SGD: set training.optimizer sgd and training.momentum 0.0"
        )
    if method.plain_sgd and training.early_stopping is not None:
        yield f"strategy {name} needs all steps of a round: leave training.early_stopping out"


def _to_secure_sums(plan: "Plan") -> Iterator[str]:
    if not plan.aggregation.secure:
        return
    if not plan.strategy.method.linear:
        yield (
            f"strategy {plan.strategy.name} looks at single updates, which aggregation.secure hides; leave "
            "one of them out"
        )
    if plan.codec.top < 1.0:
        yield (
            "codec.top leaves out most numbers, under aggregation.secure all are sent; leave one of them out"
        )
    if plan.evaluation.cross:
        yield (
            "evaluation.cross shows each site's own model, aggregation.secure hides it; leave one of them out"
        )
