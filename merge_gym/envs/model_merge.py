"""`ModelMerge-v0`: building one model from many, layer by layer, as a Markov decision process."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from merge_gym.envs.rendering import draw_map, write_map
from merge_gym.evaluation import Evaluator
from merge_gym.evaluation.subsets import SubsetSchedule
from merge_gym.evaluation.table import Table, load_table
from merge_gym.merging.bank import LayerBank
from merge_gym.recipe import Recipe
from merge_gym.rewards import DynamicAverage, DynamicAverageReward
from merge_gym.spaces.candidates import Candidates
from merge_gym.spaces.episode import Episode
from merge_gym.suites import Suite, load_suite

if TYPE_CHECKING:
    from merge_gym.evaluation import Scorer


class ModelMergeEnv(gym.Env[NDArray[np.float32], np.int64]):
    """Merge N experts layer by layer with M operators (Reinforced Model Merging, sections II-B, C).

    Observation:
        The merging map, float32 of shape ((M+N)·L,), row-major: how often each source was taken at
        each layer. With `observe_cursor`, a one-hot of the cursor, shape (L,), is appended; it is
        all zero at the end.

    Action:
        `Discrete(N+M+2)`: 0..N-1 take that expert's layer at the cursor, N..N+M-1 that operator's;
        N+M skips the layer; N+M+1 goes back to the previous one, so that it can be stacked again.

    Reward:
        0 before the end; then the mean over tasks of the task's metric × 100 on this episode's
        subset of the search split, or `invalid_reward`.

    Termination:
        The cursor passes the last layer (the recipe is scored); or, invalid: back at the first
        layer, `max_steps` spent, more than `max_depth` layers taken. An episode is never truncated.

    Info:
        Always `action_mask`, int8 of shape (N+M+2,). At the end also `raw_reward`, `depth` and
        `evaluation_cost` (examples pushed through a whole model); of a scored episode `recipe`,
        `scores` ({task: fraction}), `subset`, and `pass_position` (how many episodes were scored
        before in this pass over the subsets; None where `reset` was asked for a subset).

    Args:
        suite: a shipped suite's name, a path to a suite file, or a Suite.
        operators: names or `{"name": …, hyper-parameters}`; None for the suite's own bank.
        subsets: S, in how many slices the search split is dealt.
        observe_cursor: append the cursor's one-hot, which makes the process fully observable.
        max_steps: step budget; None for 4·L.
        max_depth: depth budget; None for no bound of its own.
        invalid_reward: the reward of an invalid episode.
        device: where recipes are scored.
        evaluation: further settings of `Evaluator`: `cache_bytes`, `dtype`, `placement`.
        mapped: whether weights lie in mapped files, as `load_suite` takes it; of no matter where
            `suite` is a Suite.
        table: a file of `merge_gym.evaluation.table` with the scores of all recipes without
            stacking; no model is then opened, going back is invalid, and `suite` may be None
            (otherwise the table must be that suite's).
        render_mode: `ansi` (text), `rgb_array` (picture), `human` (text, printed at every step).

    Example:
        >>> import gymnasium as gym, merge_gym
        >>> env = gym.make("ModelMerge-v0", suite="fashion-halves-0")
        >>> observation, info = env.reset(seed=0)
        >>> observation, reward, terminated, truncated, info = env.step(0)
        >>> float(reward), terminated
        (0.0, False)
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array", "human"], "render_fps": 4}

    def __init__(
        self,
        suite: str | Suite | None = None,
        operators: Sequence[str | Mapping[str, Any]] | None = None,
        subsets: int = 10,
        observe_cursor: bool = False,
        max_steps: int | None = None,
        max_depth: int | None = None,
        invalid_reward: float = -10.0,
        device: str = "cpu",
        evaluation: Mapping[str, Any] | None = None,
        mapped: bool | None = None,
        table: str | Path | None = None,
        render_mode: str | None = None,
    ) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(
                f"render_mode is one of {self.metadata['render_modes']}, got {render_mode!r}"
            )
        _check_budget("max_steps", max_steps)
        _check_budget("max_depth", max_depth)
        self._suite = None if suite is None else _loaded(suite, mapped)
        self.bank: Candidates
        self.evaluator: Scorer
        if table is None:
            self.bank = LayerBank(self.suite, operators)
            self.evaluator = Evaluator(self.bank, subsets, device, **(evaluation or {}))
        else:
            self.bank = self.evaluator = _open_table(table, self._suite, operators, subsets)
        sizes = tuple(self.bank.segments.values())
        self.start = Episode(
            len(self.bank.candidates),
            sizes,
            max_steps=4 * sum(sizes) if max_steps is None else max_steps,
            max_depth=max_depth,
            stacking=table is None,
        )
        self.subsets = subsets
        self.observe_cursor = observe_cursor
        self.invalid_reward = float(invalid_reward)
        self.render_mode = render_mode
        self.action_space = spaces.Discrete(self.start.candidates + 2)
        self.observation_space = self._observation_space()
        self.episode: Episode | None = None
        self.schedule: SubsetSchedule | None = None
        self._asked: int | str | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: makes everything that follows reproducible, the subset order included.
            options: `{"subset": "full"}` scores this episode on the whole search split,
                `{"subset": s}` on subset s; neither advances the pass over the subsets.
        """
        self._asked = self.checked_options(options or {})
        super().reset(seed=seed)
        if seed is not None or self.schedule is None:
            self.schedule = SubsetSchedule(self.subsets, self.np_random)
        self.episode = self.start.copy()
        return self._observation(), {"action_mask": self.action_masks()}

    def step(
        self, action: np.int64
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Apply one action; ResetNeeded before `reset` or after the end, ValueError outside
        the action space."""
        episode = self._running()
        if not self.action_space.contains(action):
            raise ValueError(
                f"an action is an integer from 0 to {self.action_space.n - 1}, got {action!r}"
            )
        episode.step(int(action))
        reward, info = self._outcome(episode) if episode.ended else (0.0, {})
        info["action_mask"] = self.action_masks()
        if self.render_mode == "human":
            print(write_map(self.merging_map, self.bank, episode.cursor))
        return self._observation(), reward, episode.ended, False, info

    @property
    def suite(self) -> Suite:
        """The suite; ValueError where the environment was made from a table alone."""
        return _loaded(self._suite)

    @property
    def merging_map(self) -> NDArray[np.float32]:
        """The merging map as a matrix, shape (N+M, L)."""
        return self._begun().merging_map

    def action_masks(self) -> NDArray[np.int8]:
        """1 for each allowed action, shape (N+M+2,), int8 (the name that sb3-contrib calls)."""
        return self._begun().mask()

    def recipe(self) -> Recipe:
        """The recipe of the layers taken so far."""
        return self.bank.recipe(self._begun().taken)

    def fork(self) -> ModelMergeEnv:
        """A copy of this environment with its episode in flight; bank and evaluator are shared."""
        fork = copy.copy(self)
        fork.episode = copy.deepcopy(self.episode)
        fork.np_random = copy.deepcopy(self.np_random)
        if self.schedule is not None:
            fork.schedule = copy.copy(self.schedule)
            fork.schedule.generator = fork.np_random
        return fork

    def render(self) -> str | NDArray[np.uint8] | None:
        """The merging map as text (`ansi`) or as a picture, uint8 of shape (H, W, 3)."""
        if self.render_mode == "rgb_array":
            return draw_map(self.merging_map, self.bank, self._begun().cursor)
        if self.render_mode == "ansi":
            return write_map(self.merging_map, self.bank, self._begun().cursor)
        return None

    def _outcome(self, episode: Episode) -> tuple[float, dict[str, Any]]:
        info: dict[str, Any] = {"depth": episode.depth, "evaluation_cost": 0}
        if episode.invalid:
            return self.invalid_reward, info | {"raw_reward": self.invalid_reward}
        assert self.schedule is not None
        recipe = self.bank.recipe(episode.taken)
        info["subset"] = self.schedule.current if self._asked is None else self._asked
        info["pass_position"] = self.schedule.position if self._asked is None else None
        subset = None if info["subset"] == "full" else info["subset"]
        scores = self.evaluator.score(recipe, subset=subset)
        if self._asked is None:
            self.schedule.advance()
        reward = 100 * float(np.mean(list(scores.values())))
        cost = self.evaluator.cost(subset=subset)
        info |= {"recipe": recipe, "scores": scores, "raw_reward": reward, "evaluation_cost": cost}
        return reward, info

    def _observation_space(self) -> spaces.Box:
        cells = self.start.candidates * self.start.layers
        high = np.full(cells, self.start.max_steps, np.float32)
        if self.observe_cursor:
            high = np.concatenate([high, np.ones(self.start.layers, np.float32)])
        return spaces.Box(np.zeros_like(high), high, dtype=np.float32)

    def _observation(self) -> NDArray[np.float32]:
        episode = self._begun()
        observation = episode.merging_map.ravel()
        if self.observe_cursor:
            cursor = np.arange(episode.layers) == episode.cursor
            observation = np.concatenate([observation, cursor.astype(np.float32)])
        return observation

    def _begun(self) -> Episode:
        if self.episode is None:
            raise ResetNeeded("no episode has begun: call reset() first")
        return self.episode

    def _running(self) -> Episode:
        episode = self._begun()
        if episode.ended:
            raise ResetNeeded("the episode has ended: call reset() before the next step()")
        return episode

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


def make_env(
    dar_scale: float = 0.8, dar_horizon: int = 700, **kwargs: Any
) -> gym.Env[NDArray[np.float32], np.int64]:
    """What the registered id makes: ModelMergeEnv with the dynamic average reward on top.

    Args:
        dar_scale: λ of the dynamic average reward; 0 leaves the wrapper out.
        dar_horizon: its T_max, the planned number of scored episodes.
        **kwargs: the arguments of ModelMergeEnv.
    """
    DynamicAverage(dar_scale, dar_horizon)  # refuses bad settings before the suite is loaded
    env = ModelMergeEnv(**kwargs)
    return DynamicAverageReward(env, dar_scale, dar_horizon) if dar_scale else env


def _loaded(suite: str | Suite | None, mapped: bool | None = None) -> Suite:
    if suite is None:
        raise ValueError("give suite=, a suite's name or file, or table=, a table of its scores")
    return suite if isinstance(suite, Suite) else load_suite(suite, mapped)


def _open_table(
    table: str | Path,
    suite: Suite | None,
    operators: Sequence[str | Mapping[str, Any]] | None,
    subsets: int,
) -> Table:
    """The table, checked against suite and operators where these are given."""
    opened = load_table(table, subsets)
    if suite is not None:
        opened.check_bank(LayerBank(suite, opened.operators if operators is None else operators))
    return opened


def _check_budget(name: str, given: int | None) -> None:
    if given is not None and not (isinstance(given, int) and given >= 1):
        raise ValueError(f"{name} is a whole number of at least 1, or None, got {given!r}")
