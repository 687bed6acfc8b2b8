"""A name belongs to one thing of its kind."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agents.agent import _AGENTS, agent
from merge_gym.models.adapter import ADAPTERS, adapter
from merge_gym.operators import operator
from merge_gym.operators.registry import _OPERATORS
from merge_gym.rewards.reward import _REWARDS, reward
from merge_gym.spaces.space import _SPACES, space
from merge_gym.suites.metrics import METRICS, metric


def called(name: str) -> Callable[..., None]:
    """A function of this name."""

    def function(*given: object) -> None: ...

    function.__name__ = name
    return function


@pytest.mark.parametrize(
    ("register", "known", "name", "module"),
    [
        (agent("ppo"), _AGENTS, "ppo", "agents.sb3.ppo"),
        (adapter("of_this_test", "bert"), ADAPTERS, "bert", "merge_gym.models.bert"),
        (metric(columns=("label",)), METRICS, "accuracy", "merge_gym.suites.metrics.accuracy"),
        (operator(scope="tensor"), _OPERATORS, "ties", "merge_gym.operators.ties"),
        (reward("plain"), _REWARDS, "plain", "merge_gym.rewards.plain"),
        (space("walk"), _SPACES, "walk", "merge_gym.spaces.walk"),
    ],
)
def test_a_name_that_is_taken_is_refused_and_stays_what_it_was(register, known, name, module):
    before = dict(known)
    with pytest.raises(ValueError, match=rf"'{name}' is already defined in {module}; give the"):
        register(called(name))
    assert known == before
