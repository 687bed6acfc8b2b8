"""Metrics, each as one number per example whose mean is the metric: a fraction, larger is better.

Every module in this folder is imported here, so a new metric is one new file::

    @metric(columns=("input", "label"))
    def label_probability(logits: Tensor, labels: Tensor) -> Tensor:
        '''The probability of the label; float32, shape (n,).'''
        return logits.softmax(-1).gather(-1, labels[:, None]).squeeze(-1)

It may as well stand in code of your own that runs before the suite is opened. It is given, for n
examples,

- `logits`: float, shape (n, classes); of a language model (n, length, vocabulary), and
  (n, choices, length, vocabulary) where an example has several sequences;
- `labels`: int64, shape (n,), the class or the right choice;
- `targets`, of a language model only: int64, the logits' shape less the vocabulary: the token that
  each logit is to predict, `UNSCORED` where it is to predict none.
"""

from importlib import import_module
from pkgutil import iter_modules

from merge_gym.suites.metrics.registry import METRICS, UNSCORED, Metric, metric

__all__ = ["METRICS", "UNSCORED", "Metric", "metric"]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
