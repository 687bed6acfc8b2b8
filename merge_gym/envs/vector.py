"""`ModelMerge-v0` many times at once: episodes in lock-step, finished ones scored together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from merge_gym.envs.model_merge import NONE, ModelMergeEnv
from merge_gym.envs.rendering import draw_map, write_map
from merge_gym.evaluation.scorer import Request, mean_over_tasks
from merge_gym.evaluation.subsets import SubsetSchedule
from merge_gym.evaluation.table import Table
from merge_gym.recipe import Recipe
from merge_gym.spaces.lockstep import Lockstep

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]

WHOLE_SPLIT = -2
"""The subset of an episode that is to be scored on the whole search split."""


class ModelMergeVectorEnv(VectorEnv[Floats, NDArray[np.int64], NDArray[Any]]):
    """N environments of one scorer, stepped together.

    Observations, masks, terminations and recipes are those of N single environments given the same
    actions. The environments share one pass over the subsets and one reward: all episodes that end
    in the same step are a round, scored on one subset, in the order of the environments; then the
    pass moves on. The first episode of a pass is the first of its first round. With N = 1 every
    number equals the single environment's.

    Infos are those of the single environment, stacked, each with its `_key` mask. With
    `autoreset_mode` NEXT_STEP (the default) an ended environment is reset by the next step, which
    ignores its action; with SAME_STEP at once, and its last observation and info stand in
    `final_obs` and `final_info`; with DISABLED by `reset(options={"reset_mask": …})`.

    Args:
        single: one environment, which gives candidates, scorer, reward and settings.
        num_envs: N.
        autoreset_mode: one of gymnasium's three.

    Example:
        >>> import gymnasium as gym, merge_gym
        >>> envs = gym.make_vec("ModelMerge-v0", num_envs=3, suite="fashion-halves-0")
        >>> observations, infos = envs.reset(seed=0)
        >>> observations, rewards, terminations, truncations, infos = envs.step([0, 0, 1])
        >>> rewards.tolist(), terminations.tolist()
        ([0.0, 0.0, 0.0], [False, False, False])
    """

    def __init__(
        self,
        single: ModelMergeEnv,
        num_envs: int = 1,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        if isinstance(num_envs, bool) or not isinstance(num_envs, int) or num_envs < 1:
            raise ValueError(f"num_envs is a whole number of at least 1, got {num_envs!r}")
        self.single = single
        self.num_envs = num_envs
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = single.metadata | {"autoreset_mode": self.autoreset_mode}
        self.render_mode = single.render_mode
        self.single_action_space = single.action_space
        self.single_observation_space = single.observation_space
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.schedule: SubsetSchedule | None = None
        self._walks = Lockstep(single.start, num_envs)
        self._asked = np.full(num_envs, NONE)
        self._over = np.zeros(num_envs, np.bool_)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Floats, dict[str, Any]]:
        """Begin an episode in every environment, or in those of `options["reset_mask"]`.

        Args:
            seed: makes everything that follows reproducible. The environments share one order of
                subsets, so of a list with one seed for each the first decides.
            options: as in the single environment, for the episodes that begin now; `reset_mask`,
                bool of shape (N,), names the environments that begin.
        """
        given = dict(options or {})
        rows = self._checked_mask(given.pop("reset_mask", None))
        asked = self.single.checked_options(given)
        first = self._first_seed(seed)
        super().reset(seed=first)
        if first is not None or self.schedule is None:
            self.schedule = SubsetSchedule(self.single.subsets, self.np_random)
        if first is not None:
            self.single.reward.clear()
        subset = NONE if asked is None else WHOLE_SPLIT if asked == "full" else int(asked)
        self._begin(rows, subset)
        return self._observations(), self._infos()

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[Floats, NDArray[np.float64], Flags, Flags, dict[str, Any]]:
        """Apply an action in each environment; what ended before begins anew, see
        `autoreset_mode`."""
        ended = self._over
        actions = self._checked_actions(actions, ~ended)
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            self._begin(ended, NONE)
        elif ended.any():
            raise ResetNeeded(
                "an episode has ended: reset it with options={'reset_mask': …} before the next step"
            )
        self._walks.step(actions, ~ended)
        self._over = self._walks.ended
        rewards, infos = np.zeros(self.num_envs), self._infos()
        terminations = self._over.copy()
        if terminations.any():
            self._settle(rewards, infos)
            if self.autoreset_mode is AutoresetMode.SAME_STEP:
                infos = self._begin_at_once(terminations, infos)
        truncations = np.zeros(self.num_envs, np.bool_)
        return self._observations(), rewards, terminations, truncations, infos

    @property
    def merging_maps(self) -> Floats:
        """The merging maps, shape (N, N+M, L)."""
        return self._walks.maps.copy()

    def action_masks(self) -> NDArray[np.int8]:
        """1 for each allowed action, int8, shape (N, N+M+2)."""
        return self._walks.mask()

    def recipes(self) -> tuple[Recipe, ...]:
        """The recipe of the layers taken so far in each environment."""
        rows = range(self.num_envs)
        return tuple(self.single.candidates.recipe(self._walks.taken(row)) for row in rows)

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """An attribute of the environments, or what it returns where it is a method; what depends
        on an episode (`recipe`, `action_masks`, `merging_map`) is each one's own."""
        own: dict[str, Any] = {
            "recipe": self.recipes,
            "action_masks": lambda: tuple(self.action_masks()),
            "merging_map": lambda: tuple(self.merging_maps),
        }
        if name in own:
            return tuple(own[name]())
        value = getattr(self.single, name)
        return (value(*args, **kwargs) if callable(value) else value,) * self.num_envs

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """An attribute of each environment."""
        return self.call(name)

    def render(self) -> tuple[str | NDArray[np.uint8], ...] | None:
        """Each environment's merging map as text or as a picture."""
        if self.render_mode is None:
            return None
        draw = draw_map if self.render_mode == "rgb_array" else write_map
        shown = zip(self._walks.maps, self._walks.cursor.tolist(), strict=True)
        return tuple(draw(each, self.single.candidates, cursor) for each, cursor in shown)

    def _begin(self, rows: Flags, subset: int) -> None:
        self._walks.begin(rows)
        self._asked[rows] = subset
        self._over = self._over & ~rows

    def _begin_at_once(self, ended: Flags, infos: dict[str, Any]) -> dict[str, Any]:
        """Keep what the ended episodes showed last, and begin the next ones."""
        last = np.full(self.num_envs, None, object)
        for row, observation in zip(
            np.flatnonzero(ended), self._observations()[ended], strict=True
        ):
            last[row] = observation
        self._begin(ended, NONE)
        return self._infos() | {
            "final_obs": last,
            "_final_obs": ended.copy(),
            "final_info": _only(infos, ended),
            "_final_info": ended.copy(),
        }

    def _settle(self, rewards: NDArray[np.float64], infos: dict[str, Any]) -> None:
        """Put the outcome of the episodes that have ended into rewards and infos."""
        ended, scored = np.flatnonzero(self._over), np.flatnonzero(self._walks.complete)
        rewards[ended] = infos["raw_reward"][ended] = self.single.invalid_reward
        if len(scored):
            self._score(scored, rewards, infos)

    def _score(
        self, rows: NDArray[np.int64], rewards: NDArray[np.float64], infos: dict[str, Any]
    ) -> None:
        """Score the complete episodes; those on the pass's subset are a round of it."""
        assert self.schedule is not None
        scheduled = self._asked[rows] == NONE
        subsets = np.where(scheduled, self.schedule.current, self._asked[rows])
        for subset in dict.fromkeys(subsets.tolist()):
            members = rows[subsets == subset]
            scores, cost = self._scores(members, None if subset == WHOLE_SPLIT else (subset,))
            for task, of in scores.items():
                infos["scores"][task][members] = of
            infos["evaluation_cost"][members] = cost
            infos["subset"][members] = NONE if subset == WHOLE_SPLIT else subset
        infos["scored"][rows] = True
        infos["pass_position"][rows[scheduled]] = self.schedule.position
        self._reward(rows, scheduled, rewards, infos)
        if scheduled.any():
            self.schedule.advance()

    def _reward(
        self,
        rows: NDArray[np.int64],
        scheduled: Flags,
        rewards: NDArray[np.float64],
        infos: dict[str, Any],
    ) -> None:
        """The reward of each scored episode; a pass begins with the first of its first round."""
        assert self.schedule is not None
        position, first = self.schedule.position, True
        tasks = list(infos["scores"])[: len(self.single.scorer.tasks)]
        columns = [infos["scores"][task].tolist() for task in tasks]
        for row, in_pass in zip(rows.tolist(), scheduled.tolist(), strict=True):
            scores = {task: column[row] for task, column in zip(tasks, columns, strict=True)}
            infos["raw_reward"][row] = 100 * mean_over_tasks(scores)
            place = (position if first else max(position, 1)) if in_pass else None
            first = first and not in_pass
            rewards[row] = self.single.reward(scores, place)

    def _scores(
        self, rows: NDArray[np.int64], subsets: tuple[int, ...] | None
    ) -> tuple[dict[str, Any], int]:
        """{task: the score of each episode} and what one of them costs; of a table, looked up all
        at once."""
        scorer = self.single.scorer
        if isinstance(scorer, Table):
            return scorer.look_up(self._walks.maps[rows], subsets)
        taken = [self._walks.taken(row) for row in rows.tolist()]
        requests = [Request(self.single.candidates.recipe(one), subsets=subsets) for one in taken]
        outcomes = scorer.evaluate(requests)
        columns = {task: [outcome.scores[task] for outcome in outcomes] for task in scorer.tasks}
        return columns, outcomes[0].cost

    def _observations(self) -> Floats:
        observations = self._walks.maps.reshape(self.num_envs, -1)
        if not self.single.observe_cursor:
            return observations.copy()
        layers = np.arange(self._walks.start.layers)
        cursors = layers == self._walks.cursor[:, None]
        return np.concatenate([observations, cursors.astype(np.float32)], axis=1)

    def _infos(self) -> dict[str, Any]:
        """The infos of a step in which no episode ends."""
        count, tasks = self.num_envs, self.single.scorer.tasks
        everywhere = np.ones(count, np.bool_)
        scores: dict[str, Any] = {task: np.zeros(count) for task in tasks}
        scores |= {f"_{task}": everywhere for task in tasks}
        infos: dict[str, Any] = {
            "action_mask": self._walks.mask(),
            "taken": self._walks.encoded(),
            "depth": self._walks.depth.copy(),
            "scored": np.zeros(count, np.bool_),
            "scores": scores,
            "raw_reward": np.zeros(count),
            "subset": np.full(count, NONE),
            "pass_position": np.full(count, NONE),
            "evaluation_cost": np.zeros(count, np.int64),
        }
        return infos | {f"_{key}": everywhere for key in infos}

    def _first_seed(self, seed: int | Sequence[int | None] | None) -> int | None:
        if seed is None or isinstance(seed, int | np.integer):
            return None if seed is None else int(seed)
        if len(seed) != self.num_envs:
            raise ValueError(f"seeds are one for each of {self.num_envs} environments, got {seed}")
        return None if seed[0] is None else int(seed[0])

    def _checked_mask(self, mask: Any) -> Flags:
        if mask is None:
            return np.ones(self.num_envs, np.bool_)
        checked = np.asarray(mask)
        if checked.shape != (self.num_envs,) or checked.dtype != np.bool_ or not checked.any():
            raise ValueError(
                f"reset_mask is {self.num_envs} truth values, at least one of them true, "
                f"got {mask!r}"
            )
        if self.schedule is None and not checked.all():
            raise ResetNeeded("no episode has begun: reset all environments first")
        return checked

    def _checked_actions(self, actions: Any, rows: Flags) -> NDArray[np.int64]:
        if self.schedule is None:
            raise ResetNeeded("no episode has begun: call reset() first")
        checked = np.asarray(actions)
        inside = checked.shape == (self.num_envs,) and np.issubdtype(checked.dtype, np.integer)
        if not inside or ((checked < 0) | (checked > self._walks.start.back))[rows].any():
            raise ValueError(
                f"actions are {self.num_envs} integers from 0 to {self._walks.start.back}, "
                f"got {actions!r}"
            )
        return checked


def _only(infos: dict[str, Any], rows: Flags) -> dict[str, Any]:
    """Infos that only these environments have, as their masks say."""
    return {
        key: _only(value, rows)
        if isinstance(value, dict)
        else rows.copy()
        if key[0] == "_" and key[1:] in infos
        else value
        for key, value in infos.items()
    }
