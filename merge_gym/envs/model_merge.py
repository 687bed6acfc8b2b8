"""`ModelMerge-v0`: building one model from many, layer by layer, as a Markov decision process."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from merge_gym.envs.observing import Observed, mask_names, space_with_mask, with_mask
from merge_gym.envs.rendering import draw_map, write_map
from merge_gym.evaluation.scorer import Outcome, Request, Scorer
from merge_gym.evaluation.subsets import SubsetSchedule
from merge_gym.recipe import Recipe
from merge_gym.rewards import Plain, Reward
from merge_gym.spaces.candidates import Candidates
from merge_gym.spaces.episode import Episode

NONE = -1
"""What stands in infos where there is no subset or no position."""


class ModelMergeEnv(gym.Env[Observed, np.int64]):
    """Merge N experts layer by layer with M operators (Reinforced Model Merging, sections II-B, C).

    `gym.make("ModelMerge-v0", …)` opens a suite or a table and makes one (`merge_gym.envs.making`).

    Observation:
        The merging map, float32 of shape ((M+N)·L,), row-major: how often each source was taken at
        each layer. With `observe_cursor`, a one-hot of the cursor, shape (L,), is appended; it is
        all zero at the end. With `observe_mask` it is one of two parts of a Dict; the other is the
        mask of `info["action_mask"]`.

    Action:
        `Discrete(N+M+2)`: 0..N-1 take that expert's layer at the cursor, N..N+M-1 that operator's;
        N+M skips the layer; N+M+1 goes back to the previous one, so that it can be stacked again.

    Reward:
        0 before the end; then what `reward` makes of the tasks' metrics on this episode's subset of
        the search split, or `invalid_reward`.

    Termination:
        The cursor passes the last layer (the recipe is scored); or, invalid: back at the first
        layer, `max_steps` spent, more than `max_depth` layers taken. An episode is never truncated.

    Info:
        The same keys at every step:

        - `action_mask`: int8, shape (N+M+2,), 1 for each allowed action;
        - `taken`: int64, shape (max_steps,): the layers taken so far, in order, each as layer ·
          (N+M) + source; -1 for the rest (`recipe_of` reads it);
        - `depth`: how many these are;
        - `scored`: whether the episode has just ended with a score; only then do the following say
          anything: `scores` ({task: metric in [0, 1]}, else 0), `raw_reward` (the mean over tasks ×
          100; of an invalid episode the penalty; else 0), `subset` (-1: the whole split),
          `pass_position` (how many episodes were scored before in this pass over the subsets; -1
          where `reset` was asked for a subset), `evaluation_cost` (examples pushed through a whole
          model).

        The recipe itself is `env.get_wrapper_attr("recipe")()`.

    Args:
        candidates: what actions choose from.
        scorer: what scores the recipes.
        reward: what is told of a scored episode; None for the plain reward.
        observe_cursor: append the cursor's one-hot, which makes the process fully observable.
        max_steps: step budget; None for 4·L.
        max_depth: depth budget; None for no bound of its own.
        invalid_reward: the reward of an invalid episode.
        stacking: whether going back is allowed at all; a table knows no stacked recipes.
        render_mode: `ansi` (text), `rgb_array` (picture), `human` (text, printed at every step);
            through `gym.make` also `rgb_array_list`.
        observe_mask: make the observation a Dict with the mask: true for RLlib's names
            (`observations`, `action_mask`), or the two names, such as Tianshou's
            `("obs", "mask")`.

    Example:
        >>> import gymnasium as gym, merge_gym
        >>> env = gym.make("ModelMerge-v0", suite="fashion-halves-0")
        >>> observation, info = env.reset(seed=0)
        >>> observation, reward, terminated, truncated, info = env.step(0)
        >>> float(reward), terminated, info["taken"][:2].tolist()
        (0.0, False, [0, -1])
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array", "human"], "render_fps": 4}

    def __init__(
        self,
        candidates: Candidates,
        scorer: Scorer,
        reward: Reward | None = None,
        observe_cursor: bool = False,
        max_steps: int | None = None,
        max_depth: int | None = None,
        invalid_reward: float = -10.0,
        stacking: bool = True,
        render_mode: str | None = None,
        observe_mask: bool | Sequence[str] = False,
    ) -> None:
        check_settings(
            observe_cursor, max_steps, max_depth, invalid_reward, render_mode, observe_mask
        )
        self.mask_names = mask_names(observe_mask)
        self.candidates, self.scorer = candidates, scorer
        self.reward = Plain() if reward is None else reward
        self.start = Episode(
            len(candidates),
            tuple(candidates.segments.values()),
            max_steps=4 * candidates.depth if max_steps is None else max_steps,
            max_depth=max_depth,
            stacking=stacking,
        )
        self.observe_cursor = observe_cursor
        self.invalid_reward = float(invalid_reward)
        self.render_mode = render_mode
        self.action_space = spaces.Discrete(self.start.candidates + 2)
        self.observation_space = self._observation_space()
        self.episode: Episode | None = None
        self.schedule: SubsetSchedule | None = None
        self._asked: int | str | None = None

    @property
    def subsets(self) -> int:
        """S, in how many subsets the search split is dealt."""
        return self.scorer.subset_count

    @property
    def max_steps(self) -> int:
        """The step budget."""
        assert self.start.max_steps is not None
        return self.start.max_steps

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observed, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: makes everything that follows reproducible, the subset order and the reward's
                memory included.
            options: `{"subset": "full"}` scores this episode on the whole search split,
                `{"subset": s}` on subset s; neither advances the pass over the subsets.
        """
        self._asked = self.checked_options(options or {})
        super().reset(seed=seed)
        if seed is not None:
            self.reward.clear()
        if seed is not None or self.schedule is None:
            self.schedule = SubsetSchedule(self.subsets, self.np_random)
        self.episode = self.start.copy()
        self._show()
        return self._observation(), self._info(self.episode)

    def step(self, action: np.int64) -> tuple[Observed, float, bool, bool, dict[str, Any]]:
        """Apply one action; ResetNeeded before `reset` or after the end, ValueError outside
        the action space."""
        episode = self._running()
        if not self.action_space.contains(action):
            raise ValueError(
                f"an action is an integer from 0 to {self.action_space.n - 1}, got {action!r}"
            )
        episode.step(int(action))
        reward, info = 0.0, self._info(episode)
        if episode.invalid:
            reward = info["raw_reward"] = self.invalid_reward
        elif episode.complete:
            reward = self._score(info)
        self._show()
        return self._observation(), reward, episode.ended, False, info

    @property
    def merging_map(self) -> NDArray[np.float32]:
        """The merging map as a matrix, shape (N+M, L)."""
        return self._begun().merging_map

    def action_masks(self) -> NDArray[np.int8]:
        """1 for each allowed action, shape (N+M+2,), int8 (the name that sb3-contrib calls)."""
        return self._begun().mask()

    def recipe(self) -> Recipe:
        """The recipe of the layers taken so far."""
        return self.candidates.recipe(self._begun().taken)

    def recipe_of(self, taken: NDArray[np.int64]) -> Recipe:
        """The recipe that `info["taken"]` spells."""
        return recipe_of(taken, self.candidates)

    def fork(self) -> ModelMergeEnv:
        """A copy of this environment with its episode in flight, and with the reward's memory as it
        is now; candidates and scorer are shared."""
        fork = copy.copy(self)
        fork.episode = copy.deepcopy(self.episode)
        fork.reward = copy.deepcopy(self.reward)
        fork.np_random = copy.deepcopy(self.np_random)
        if self.schedule is not None:
            fork.schedule = copy.copy(self.schedule)
            fork.schedule.generator = fork.np_random
        return fork

    def render(self) -> str | NDArray[np.uint8] | None:
        """The merging map as text (`ansi`) or as a picture, uint8 of shape (H, W, 3)."""
        if self.render_mode == "rgb_array":
            return draw_map(self.merging_map, self.candidates, self._begun().cursor)
        if self.render_mode == "ansi":
            return write_map(self.merging_map, self.candidates, self._begun().cursor)
        return None

    def checked_options(self, options: dict[str, Any]) -> int | str | None:
        """The subset that `reset` is asked for; ValueError if there is none such."""
        subset = options.get("subset")
        if set(options) - {"subset"} or not (
            subset is None
            or subset == "full"
            or (isinstance(subset, int | np.integer) and 0 <= subset < self.subsets)
        ):
            raise ValueError(
                f"reset takes options={{'subset': 'full'}} or a subset from 0 to "
                f"{self.subsets - 1}, got {options!r}"
            )
        return subset

    def _score(self, info: dict[str, Any]) -> float:
        """Score the recipe that is complete, and say so in `info`; returns the reward."""
        assert self.schedule is not None
        scheduled = self._asked is None
        subset = self.schedule.current if self._asked is None else self._asked
        outcome = self._outcome(None if subset == "full" else (int(subset),))
        position = self.schedule.position if scheduled else None
        if scheduled:
            self.schedule.advance()
        info["scored"] = True
        info["scores"] = outcome.scores
        info["raw_reward"] = 100 * outcome.mean
        info["subset"] = NONE if subset == "full" else int(subset)
        info["pass_position"] = NONE if position is None else position
        info["evaluation_cost"] = outcome.cost
        return self.reward(outcome.scores, position)

    def _outcome(self, subsets: tuple[int, ...] | None) -> Outcome:
        return self.scorer.evaluate([Request(self.recipe(), subsets=subsets)])[0]

    def _info(self, episode: Episode) -> dict[str, Any]:
        taken = np.full(self.max_steps, NONE, np.int64)
        if episode.taken:
            pairs = np.array(episode.taken, np.int64)
            taken[: len(pairs)] = pairs[:, 0] * episode.candidates + pairs[:, 1]
        return {
            "action_mask": episode.mask(),
            "taken": taken,
            "depth": episode.depth,
            "scored": False,
            "scores": dict.fromkeys(self.scorer.tasks, 0.0),
            "raw_reward": 0.0,
            "subset": NONE,
            "pass_position": NONE,
            "evaluation_cost": 0,
        }

    def _show(self) -> None:
        if self.render_mode == "human":
            print(write_map(self.merging_map, self.candidates, self._begun().cursor))

    def _observation_space(self) -> spaces.Box | spaces.Dict:
        cells = self.start.candidates * self.start.layers
        high = np.full(cells, self.max_steps, np.float32)
        if self.observe_cursor:
            high = np.concatenate([high, np.ones(self.start.layers, np.float32)])
        box = spaces.Box(np.zeros_like(high), high, dtype=np.float32)
        return space_with_mask(box, self.start.candidates + 2, self.mask_names)

    def _observation(self) -> Observed:
        episode = self._begun()
        observation = episode.merging_map.ravel()
        if self.observe_cursor:
            cursor = np.arange(episode.layers) == episode.cursor
            observation = np.concatenate([observation, cursor.astype(np.float32)])
        return with_mask(observation, episode.mask(), self.mask_names)

    def _begun(self) -> Episode:
        if self.episode is None:
            raise ResetNeeded("no episode has begun: call reset() first")
        return self.episode

    def _running(self) -> Episode:
        episode = self._begun()
        if episode.ended:
            raise ResetNeeded("the episode has ended: call reset() before the next step()")
        return episode


def recipe_of(taken: NDArray[np.int64], candidates: Candidates) -> Recipe:
    """The recipe that `info["taken"]` spells: layer · (N+M) + source for each layer taken, in
    order; -1 for none."""
    pairs = [divmod(int(number), len(candidates)) for number in taken if number != NONE]
    return candidates.recipe(pairs)


def check_settings(
    observe_cursor: Any,
    max_steps: Any,
    max_depth: Any,
    invalid_reward: Any,
    render_mode: Any,
    observe_mask: Any,
) -> None:
    """ValueError for a setting of another kind or out of range."""
    if not isinstance(observe_cursor, bool):
        raise ValueError(f"observe_cursor is true or false, got {observe_cursor!r}")
    for name, given in {"max_steps": max_steps, "max_depth": max_depth}.items():
        whole = isinstance(given, int) and not isinstance(given, bool)
        if given is not None and not (whole and given >= 1):
            raise ValueError(f"{name} is a whole number of at least 1, or None, got {given!r}")
    if not isinstance(invalid_reward, int | float) or not math.isfinite(invalid_reward):
        raise ValueError(f"invalid_reward is a finite number, got {invalid_reward!r}")
    modes = ModelMergeEnv.metadata["render_modes"]
    if render_mode is not None and render_mode not in modes:
        raise ValueError(f"render_mode is one of {modes}, got {render_mode!r}")
    mask_names(observe_mask)
