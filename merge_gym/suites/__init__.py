"""Suites: the problem instances, described by data and loaded without running foreign code."""

from merge_gym.suites.loading import list_suites, load_suite
from merge_gym.suites.metrics import metric
from merge_gym.suites.suite import Split, Suite, Task

__all__ = ["Split", "Suite", "Task", "list_suites", "load_suite", "metric"]
