"""What an agent is told about an outcome: one object a file."""

from merge_gym.rewards.dynamic_average import DynamicAverage, DynamicAverageReward

__all__ = ["DynamicAverage", "DynamicAverageReward"]
