"""`ModelMerge-v0` many times at once: episodes in lock-step, finished ones scored together."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from merge_gym.envs.lockstep_env import Flags, Floats, LockstepVectorEnv
from merge_gym.envs.model_merge import NONE, ModelMergeEnv
from merge_gym.envs.rendering import draw_map, write_map
from merge_gym.evaluation.scorer import Request, mean_over_tasks
from merge_gym.evaluation.subsets import SubsetSchedule
from merge_gym.evaluation.table import Table
from merge_gym.recipe import Recipe
from merge_gym.spaces.lockstep import Lockstep

WHOLE_SPLIT = -2
"""The subset of an episode that is to be scored on the whole search split."""


class ModelMergeVectorEnv(LockstepVectorEnv):
    """N environments of one scorer, stepped together.

    Observations, masks, terminations and recipes are those of N single environments given the same
    actions. The environments share one pass over the subsets and one reward: all episodes that end
    in the same step are a round, scored on one subset, in the order of the environments; then the
    pass moves on. The first episode of a pass is the first of its first round. With N = 1 every
    number equals the single environment's.

    Infos, `reset` and the three modes of automatic resets are as `LockstepVectorEnv` says.

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

    single: ModelMergeEnv

    def __init__(
        self,
        single: ModelMergeEnv,
        num_envs: int = 1,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        super().__init__(single, num_envs, autoreset_mode)
        self.schedule: SubsetSchedule | None = None
        self._walks = Lockstep(single.start, num_envs)
        self._asked = np.full(num_envs, NONE)

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

    def render(self) -> tuple[str | NDArray[np.uint8], ...] | None:
        """Each environment's merging map as text or as a picture."""
        if self.render_mode is None:
            return None
        draw = draw_map if self.render_mode == "rgb_array" else write_map
        shown = zip(self._walks.maps, self._walks.cursor.tolist(), strict=True)
        return tuple(draw(each, self.single.candidates, cursor) for each, cursor in shown)

    def _own(self) -> dict[str, Any]:
        return {
            "recipe": self.recipes,
            "action_masks": self.action_masks,
            "merging_map": lambda: self.merging_maps,
        }

    def _seeded(self, seed: int | None) -> None:
        if seed is not None or self.schedule is None:
            self.schedule = SubsetSchedule(self.single.subsets, self.np_random)
        if seed is not None:
            self.single.reward.clear()

    def _begin(self, rows: Flags, asked: int | str | None = None) -> None:
        self._walks.begin(rows)
        subset = NONE if asked is None else WHOLE_SPLIT if asked == "full" else int(asked)
        self._asked[rows] = subset

    def _advance(
        self, actions: NDArray[np.int64], rows: Flags
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        self._walks.step(actions, rows)
        rewards, infos = np.zeros(self.num_envs), self._infos()
        if self._walks.ended.any():
            self._settle(rewards, infos)
        return rewards, infos

    def _ended(self) -> Flags:
        return self._walks.ended

    def _settle(self, rewards: NDArray[np.float64], infos: dict[str, Any]) -> None:
        """Put the outcome of the episodes that have ended into rewards and infos."""
        ended, scored = np.flatnonzero(self._walks.ended), np.flatnonzero(self._walks.complete)
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
        infos = {
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
        return self._masked(infos)
