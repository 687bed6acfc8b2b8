"""A linear probe: what labelled examples give on a trunk as it is, without any expert's head.

The control of every merge: who has labels and a trunk needs no experts.
"""

from __future__ import annotations

from torch.nn.functional import one_hot

from merge_gym.merging.bank import LayerBank
from merge_gym.merging.heads import features, ridge
from merge_gym.recipe import Recipe
from merge_gym.suites.metrics import METRICS


def probe(recipe: Recipe, bank: LayerBank, task: str) -> dict[str, float]:
    """{split: the task's metric} of a linear head that is fitted to the labelled search split.

    Ridge regression from the trunk's features at the head's input to the labels, one of n; its
    strength is the best by leave-one-out, and every search example is scored by the map that is
    fitted to all others. Features are not normalised.

    Args:
        recipe: as `LayerBank.resolve` gives it, of a suite whose heads can be calibrated.
        bank: where its layers come from.
        task: one with classes.
    """
    of = bank.suite.tasks[task]
    seen = {name: features(recipe, bank, task, split) for name, split in of.splits.items()}
    classes = bank.suite.experts[of.expert].config.num_labels
    search, test = of.splits["search"], of.splits["test"]
    fit = ridge(seen["search"], one_hot(search.labels, classes).double(), None)
    logits = {"search": fit.left_out, "test": seen["test"] @ fit.mapping + fit.offset}
    scores = {
        name: METRICS[of.metric].score(logits[name], split.labels).double().mean()
        for name, split in (("search", search), ("test", test))
    }
    return {name: float(score) for name, score in scores.items()}
