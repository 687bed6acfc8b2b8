"""What an agent is told about an outcome: one object a file.

Every module in this folder is imported here, so a new reward is one new file with a class decorated
by `@reward`.
"""

from importlib import import_module
from pkgutil import iter_modules

from merge_gym.rewards.dynamic_average import DynamicAverage, DynamicAverageReward
from merge_gym.rewards.plain import Plain
from merge_gym.rewards.reward import Reward, available, make, reward

__all__ = [
    "DynamicAverage",
    "DynamicAverageReward",
    "Plain",
    "Reward",
    "available",
    "make",
    "reward",
]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
