"""What the registered ids make: an environment from a suite's name or a table's file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import gymnasium as gym

from merge_gym import rewards
from merge_gym.envs import model_edit
from merge_gym.envs.model_edit import ModelEditEnv, ModelEditVectorEnv
from merge_gym.envs.model_merge import ModelMergeEnv, check_settings
from merge_gym.envs.vector import ModelMergeVectorEnv
from merge_gym.evaluation.scorer import Scorer
from merge_gym.evaluation.table import Table, load_table
from merge_gym.rewards import DynamicAverage, Reward
from merge_gym.spaces.candidates import Candidates

if TYPE_CHECKING:
    from merge_gym.suites import Suite

DEFAULT_SUITE = "fashion-halves-0"
OF_THE_ENVIRONMENT = {
    "observe_cursor": False,
    "max_steps": None,
    "max_depth": None,
    "invalid_reward": -10.0,
    "render_mode": None,
    "observe_mask": False,
}
OF_EDITING = {
    "budget": 10.0,
    "z": 0.5,
    "start": "uniform",
    "observe_results": False,
    "invalid_reward": -10.0,
    "render_mode": None,
    "observe_mask": False,
}

Make = TypeVar("Make", bound=Callable[..., Any])


def of(env: type[gym.Env[Any, Any]]) -> Callable[[Make], Make]:
    """Give an entry point the metadata of what it makes, where gymnasium looks for it."""

    def mark(make: Make) -> Make:
        vars(make)["metadata"] = env.metadata
        return make

    return mark


@of(ModelMergeEnv)
def make_env(**settings: Any) -> ModelMergeEnv:
    """`gym.make("ModelMerge-v0", …)`.

    Args:
        **settings: of `open_problem`; `dar_scale` and `dar_horizon` of the dynamic average reward
            (`dar_scale=0` for the plain one), or instead a `reward`: its name, `{"name": …,
            settings}` or the object itself; and of ModelMergeEnv
            `observe_cursor`, `max_steps`, `max_depth`, `invalid_reward`, `render_mode`,
            `observe_mask`. All have defaults.
    """
    reward, ours, problem = _sorted(settings)
    candidates, scorer = open_problem(**problem)
    return ModelMergeEnv(candidates, scorer, reward, stacking=_stacks(scorer), **ours)


def make_vector_env(num_envs: int = 1, **settings: Any) -> ModelMergeVectorEnv:
    """`gym.make_vec("ModelMerge-v0", num_envs=…)`: settings as for one environment, and
    `autoreset_mode`."""
    modes = {name: settings.pop(name) for name in ("autoreset_mode",) if name in settings}
    reward, ours, problem = _sorted(settings)
    candidates, scorer = open_problem(**problem)
    single = ModelMergeEnv(candidates, scorer, reward, stacking=_stacks(scorer), **ours)
    return ModelMergeVectorEnv(single, num_envs, **modes)


@of(ModelEditEnv)
def make_edit_env(**settings: Any) -> ModelEditEnv:
    """`gym.make("ModelEdit-v0", …)`.

    Args:
        **settings: of `open_problem`; and of ModelEditEnv `budget`, `z`, `start`,
            `observe_results`, `invalid_reward`, `render_mode`, `observe_mask`. All have defaults.
    """
    ours, problem = _split(settings, OF_EDITING)
    model_edit.check_settings(**ours)  # before anything heavy is opened
    candidates, scorer = open_problem(**problem)
    return ModelEditEnv(candidates, scorer, stacking=_stacks(scorer), **ours)


def make_edit_vector_env(num_envs: int = 1, **settings: Any) -> ModelEditVectorEnv:
    """`gym.make_vec("ModelEdit-v0", num_envs=…)`: settings as for one environment, and
    `autoreset_mode`."""
    modes = {name: settings.pop(name) for name in ("autoreset_mode",) if name in settings}
    return ModelEditVectorEnv(make_edit_env(**settings), num_envs, **modes)


def open_problem(
    suite: str | Suite | None = None,
    operators: Sequence[str | Mapping[str, Any]] | None = None,
    subsets: int = 10,
    device: str = "cpu",
    evaluation: Mapping[str, Any] | None = None,
    mapped: bool | None = None,
    table: str | Path | None = None,
) -> tuple[Candidates, Scorer]:
    """What a search chooses from, and what scores it.

    Args:
        suite: a shipped suite's name, a path to a suite file, or a Suite; None for
            `fashion-halves-0`, unless there is a table.
        operators: names or `{"name": …, settings}`; None for the suite's own bank.
        subsets: S, in how many subsets the search split is dealt.
        device: where recipes are scored.
        evaluation: further settings of `Evaluator` (`cache_bytes`, `dtype`, `placement`) and of
            `LayerBank` (`bank_bytes`).
        mapped: whether weights lie in mapped files, as `load_suite` takes it; of no matter where
            `suite` is a Suite.
        table: a shipped table's name, or a file of `experiments.tabulate`; no model is then
            opened, and nothing is stacked. With a suite beside it the table must be that suite's.

    Raises ValueError or OSError for what cannot be opened.
    """
    if isinstance(subsets, bool) or not isinstance(subsets, int) or subsets < 1:
        raise ValueError(f"subsets is a whole number of at least 1, got {subsets!r}")
    if mapped is not None and not isinstance(mapped, bool):
        raise ValueError(f"mapped is true, false or None, got {mapped!r}")
    if table is None:
        return _open_suite(suite, operators, subsets, device, dict(evaluation or {}), mapped)
    opened = load_table(table, subsets)
    if suite is not None:
        _check_table(opened, suite, operators, mapped)
    return opened.candidates, opened


def _open_suite(
    suite: str | Suite | None,
    operators: Sequence[str | Mapping[str, Any]] | None,
    subsets: int,
    device: str,
    evaluation: dict[str, Any],
    mapped: bool | None,
) -> tuple[Candidates, Scorer]:
    from merge_gym.evaluation.devices import one_thread_in_a_fork  # torch: a table needs none
    from merge_gym.evaluation.engine import Evaluator
    from merge_gym.merging.bank import LayerBank

    one_thread_in_a_fork()
    opened = _loaded(DEFAULT_SUITE if suite is None else suite, mapped)
    bank = LayerBank(opened, operators, bank_bytes=evaluation.pop("bank_bytes", None))
    return bank.candidates, Evaluator(bank, subsets, device, **evaluation)


def _check_table(
    table: Table,
    suite: str | Suite,
    operators: Sequence[str | Mapping[str, Any]] | None,
    mapped: bool | None,
) -> None:
    from merge_gym.merging.bank import LayerBank

    given = table.operators if operators is None else operators
    table.check_candidates(LayerBank(_loaded(suite, mapped), given).candidates)


def _loaded(suite: str | Suite, mapped: bool | None) -> Suite:
    from merge_gym.suites import Suite, load_suite

    return suite if isinstance(suite, Suite) else load_suite(suite, mapped)


def _stacks(scorer: Scorer) -> bool:
    return not isinstance(scorer, Table)


def _sorted(settings: dict[str, Any]) -> tuple[Reward, dict[str, Any], dict[str, Any]]:
    """The reward, the settings of the environment, and those of the problem."""
    rest = dict(settings)
    reward = rest.pop("reward", None)
    scale, horizon = rest.pop("dar_scale", 0.8), rest.pop("dar_horizon", 700)
    if reward is None:
        reward = DynamicAverage(scale, horizon)
    elif isinstance(reward, str | Mapping):
        reward = rewards.make(**({"name": reward} if isinstance(reward, str) else reward))
    ours, problem = _split(rest, OF_THE_ENVIRONMENT)
    check_settings(**ours)  # before anything heavy is opened
    return reward, ours, problem


def _split(
    settings: Mapping[str, Any], ours: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings that `ours` names, with its defaults, and the others."""
    others = {name: value for name, value in settings.items() if name not in ours}
    return {name: settings.get(name, default) for name, default in ours.items()}, others
