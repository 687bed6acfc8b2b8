"""`ModelMerge-v0` many times at once: episodes in lock-step, finished ones scored together."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from merge_gym.envs.model_merge import ModelMergeEnv
from merge_gym.envs.rendering import draw_map, write_map
from merge_gym.evaluation.subsets import SubsetSchedule
from merge_gym.evaluation.table import Table
from merge_gym.recipe import Recipe
from merge_gym.rewards import DynamicAverage
from merge_gym.spaces.lockstep import Lockstep

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]


class ModelMergeVectorEnv(VectorEnv[Floats, NDArray[np.int64], NDArray[Any]]):
    """N environments of one bank and one evaluator, stepped together.

    Observations, masks, terminations and recipes are those of N single environments given the same
    actions. The environments share one pass over the subsets and one dynamic average: all episodes
    that end in the same step are a round, scored on one subset, in the order of the environments;
    then the pass moves on. The first episode of a pass is the first of its first round. With N = 1
    every number equals the single environment's.

    An ended environment is reset by the next step, which ignores its action (AutoresetMode
    NEXT_STEP). Infos are those of the single environment, stacked, each with its `_key` mask.

    Args:
        num_envs: N.
        dar_scale: λ of the dynamic average reward; 0 leaves rewards as they are.
        dar_horizon: its T_max, the planned number of scored episodes of all environments together.
        **kwargs: the arguments of ModelMergeEnv.

    Example:
        >>> import gymnasium as gym, merge_gym
        >>> envs = gym.make_vec("ModelMerge-v0", num_envs=3, suite="fashion-halves-0")
        >>> observations, infos = envs.reset(seed=0)
        >>> observations, rewards, terminations, truncations, infos = envs.step([0, 0, 1])
        >>> rewards.tolist(), terminations.tolist()
        ([0.0, 0.0, 0.0], [False, False, False])
    """

    def __init__(
        self, num_envs: int = 1, dar_scale: float = 0.8, dar_horizon: int = 700, **kwargs: Any
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs is a number of at least 1, got {num_envs!r}")
        self.average = DynamicAverage(dar_scale, dar_horizon)
        self.single = ModelMergeEnv(**kwargs)
        self.num_envs = num_envs
        self.metadata = self.single.metadata | {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self.render_mode = self.single.render_mode
        self.single_action_space = self.single.action_space
        self.single_observation_space = self.single.observation_space
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.schedule: SubsetSchedule | None = None
        self._walks = Lockstep(self.single.start, num_envs)
        self._asked = np.full(num_envs, None, object)
        self._over = np.zeros(num_envs, np.bool_)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats, dict[str, Any]]:
        """Begin an episode in every environment.

        Args:
            seed: makes everything that follows reproducible, the subset order included.
            options: as in the single environment; for the episodes that begin now.
        """
        self._asked[:] = self.single.checked_options(options or {})
        super().reset(seed=seed)
        if seed is not None or self.schedule is None:
            self.schedule = SubsetSchedule(self.single.subsets, self.np_random)
        if seed is not None:
            self.average.clear()
        self._over[:] = False
        self._walks.begin(np.ones(self.num_envs, np.bool_))
        return self._observations(), self._masks_info()

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[Floats, NDArray[np.float64], Flags, Flags, dict[str, Any]]:
        """Apply an action in each environment, or begin the next episode where one has ended."""
        fresh = self._over
        actions = self._checked_actions(actions, ~fresh)
        self._walks.begin(fresh)
        self._asked[fresh] = None
        self._walks.step(actions, ~fresh)
        self._over = self._walks.ended
        infos = self._masks_info()
        rewards = np.zeros(self.num_envs)
        if self._over.any():
            self._settle(rewards, infos)
        truncations = np.zeros(self.num_envs, np.bool_)
        return self._observations(), rewards, self._over.copy(), truncations, infos

    @property
    def merging_maps(self) -> Floats:
        """The merging maps, shape (N, N+M, L)."""
        return self._walks.maps.copy()

    def action_masks(self) -> NDArray[np.int8]:
        """1 for each allowed action, int8, shape (N, N+M+2)."""
        return self._walks.mask()

    def render(self) -> tuple[str | NDArray[np.uint8], ...] | None:
        """Each environment's merging map as text or as a picture."""
        if self.render_mode is None:
            return None
        draw = draw_map if self.render_mode == "rgb_array" else write_map
        shown = zip(self._walks.maps, self._walks.cursor.tolist(), strict=True)
        return tuple(draw(merging_map, self.single.bank, cursor) for merging_map, cursor in shown)

    def _settle(self, rewards: NDArray[np.float64], infos: dict[str, Any]) -> None:
        """Put the outcome of the episodes that have ended into rewards and infos."""
        ended, scored = np.flatnonzero(self._over), np.flatnonzero(self._walks.complete)
        raw = np.full(self.num_envs, self.single.invalid_reward)
        cost = np.zeros(self.num_envs, np.int64)
        if len(scored):
            raw[scored], cost[scored] = self._score(scored, infos)
        rewards[ended] = raw[ended]
        self._smooth(rewards, [row for row in scored.tolist() if self._asked[row] is None])
        depth = self._walks.depth
        self._put(infos, ended, raw_reward=raw[ended], depth=depth[ended])
        self._put(infos, ended, evaluation_cost=cost[ended])

    def _score(
        self, rows: NDArray[np.int64], infos: dict[str, Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Raw reward and evaluation cost of each complete episode; the rest goes into infos."""
        assert self.schedule is not None
        subsets, positions = self._asked[rows], np.full(len(rows), None)
        scheduled = np.array([subset is None for subset in subsets])
        subsets[scheduled] = self.schedule.current
        positions[scheduled] = self.schedule.position
        recipes = [self.single.bank.recipe(self._walks.taken(row)) for row in rows.tolist()]
        self._put(infos, rows, recipe=recipes, subset=subsets, pass_position=positions)
        infos["scores"], infos["_scores"] = {}, infos["_recipe"].copy()
        rewards, costs = np.zeros(len(rows)), np.zeros(len(rows), np.int64)
        for subset in set(subsets.tolist()):
            members = np.flatnonzero(subsets == subset)
            given = None if subset == "full" else subset
            scores = self._scores(rows[members], [recipes[member] for member in members], given)
            self._put(infos["scores"], rows[members], **scores)
            rewards[members] = 100 * np.stack(list(scores.values()), axis=1).mean(axis=1)
            costs[members] = self.single.evaluator.cost(subset=given)
        return rewards, costs

    def _scores(
        self, rows: NDArray[np.int64], recipes: list[Recipe], subset: int | None
    ) -> dict[str, NDArray[np.float64]]:
        """{task: the score of each recipe}; of a table, looked up all at once."""
        evaluator = self.single.evaluator
        if isinstance(evaluator, Table):
            places = evaluator.indices(self._walks.maps[rows])
            return {task: known[places] for task, known in evaluator.fractions(subset).items()}
        scores = [evaluator.score(recipe, subset=subset) for recipe in recipes]
        return {task: np.array([score[task] for score in scores]) for task in scores[0]}

    def _smooth(self, rewards: NDArray[np.float64], rows: list[int]) -> None:
        """The dynamic average of a round, which then moves the pass on."""
        assert self.schedule is not None
        for number, row in enumerate(rows):
            starts_pass = self.schedule.position == 0 and number == 0
            rewards[row] = self.average.smooth(float(rewards[row]), starts_pass)
        if rows:
            self.schedule.advance()

    def _put(
        self, infos: dict[str, Any], rows: NDArray[np.int64], **values: NDArray[Any] | list[Any]
    ) -> None:
        """Add values of the environments in `rows`, each with its mask; lists become objects."""
        for key, value in values.items():
            mask = infos.setdefault(f"_{key}", np.zeros(self.num_envs, np.bool_))
            dtype = value.dtype if isinstance(value, np.ndarray) else np.dtype(object)
            blank = None if dtype.hasobject else 0
            infos.setdefault(key, np.full(self.num_envs, blank, dtype))[rows] = value
            mask[rows] = True

    def _observations(self) -> Floats:
        observations = self._walks.maps.reshape(self.num_envs, -1)
        if not self.single.observe_cursor:
            return observations.copy()
        layers = np.arange(self._walks.start.layers)
        cursors = layers == self._walks.cursor[:, None]
        return np.concatenate([observations, cursors.astype(np.float32)], axis=1)

    def _masks_info(self) -> dict[str, Any]:
        return {
            "action_mask": self._walks.mask(),
            "_action_mask": np.ones(self.num_envs, np.bool_),
        }

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
