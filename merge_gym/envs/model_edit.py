"""`ModelEdit-v0`: improving a merged model by edits of single layers, as a decision process."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from merge_gym.envs.incumbents import Incumbents
from merge_gym.envs.lockstep_env import Flags, LockstepVectorEnv
from merge_gym.envs.observing import Observed, mask_names, space_with_mask, with_mask
from merge_gym.envs.rendering import draw_map, write_map
from merge_gym.evaluation.scorer import Scorer
from merge_gym.recipe import Recipe
from merge_gym.spaces.candidates import Candidates

STARTS = ("uniform", "random")

WORST = 100.0
"""No difference is larger, in points."""


class ModelEditEnv(gym.Env[Observed, np.int64]):
    """Improve a merge of N experts and M operators, its incumbent, by one edited layer after the
    other.

    `gym.make("ModelEdit-v0", …)` opens a suite or a table and makes one (`merge_gym.envs.making`).

    Observation:
        The incumbent's merging map, float32 of shape ((M+N)·L,), row-major: how often each source
        stands at each layer, at most twice. With `observe_results` follow, for each action, the
        reward that it gave when it was last tried in this episode (0: it was not), and the share of
        the budget that is left. With `observe_mask` it is one of two parts of a Dict; the other is
        the mask of `info["action_mask"]`.

    Action:
        `Discrete(L·(N+M+2))`. Action layer · (N+M+2) + choice edits that layer: 0..N-1 put that
        expert's layer there, N..N+M-1 that operator's; N+M skips the layer; N+M+1 stacks it: what
        stands there stands there twice. The incumbent with this edit is the challenger.

    Reward:
        The challenger races: it is scored on one subset of the search split after the other, in a
        random order, until it is hopeless (`merge_gym.evaluation.races`) or was scored on all. The
        reward is the mean over those subsets of its score less the incumbent's, in points (mean
        over tasks of the metric × 100). A challenger that is better over all subsets becomes the
        incumbent. An action that the mask forbids gives `invalid_reward`, and nothing is scored.

    Termination:
        The budget does not pay for another subset; every edit of the incumbent was tried; or
        as many steps were taken as the budget pays for subsets. An episode is never truncated.

    Info:
        The same keys at every step:

        - `action_mask`: int8, shape (L·(N+M+2),): 1 for each edit that changes the incumbent and
          was not tried against it; a layer that is skipped or stands twice is not stacked;
        - `taken`: int64, shape (2·L,): the incumbent's layers, in order, each as layer · (N+M) +
          source; -1 for the rest;
        - `depth`: how many these are;
        - `scores`: {task: metric in [0, 1]} of the incumbent on the whole search split;
        - `score`: the mean over tasks of these × 100;
        - `won`: whether this step's challenger became the incumbent;
        - `subsets`: on how many subsets it was scored;
        - `evaluation_cost`: examples pushed through a whole model in this episode so far, its start
          included, the same recipe's again each time.

        The incumbent itself is `env.get_wrapper_attr("recipe")()`.

    Args:
        candidates: what layers come from.
        scorer: what scores recipes.
        budget: of an episode, in full evaluations of the search split, its start included.
        z: of the races; None scores every challenger on all subsets.
        start: `uniform` begins at the best uniform merge, which the merges race for once (an
            episode is charged for it each time); `random` at any recipe without stacking, scored on
            all subsets.
        observe_results: append what actions gave, and the budget left.
        invalid_reward: the reward of an action that the mask forbids.
        stacking: whether layers may be stacked at all; a table knows no stacked recipes.
        render_mode: `ansi` (text), `rgb_array` (picture), `human` (text, printed at every step);
            through `gym.make` also `rgb_array_list`.
        observe_mask: make the observation a Dict with the mask: true for RLlib's names
            (`observations`, `action_mask`), or the two names, such as Tianshou's
            `("obs", "mask")`.

    Example:
        >>> import gymnasium as gym, merge_gym
        >>> env = gym.make("ModelEdit-v0", suite="fashion-halves-0")
        >>> observation, info = env.reset(seed=0)
        >>> action = env.action_space.sample(info["action_mask"])
        >>> observation, reward, terminated, truncated, info = env.step(action)
        >>> 1 <= info["subsets"] <= 10, info["won"] == (info["subsets"] == 10 and reward > 0)
        (True, True)
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array", "human"], "render_fps": 4}

    def __init__(
        self,
        candidates: Candidates,
        scorer: Scorer,
        budget: float = 10.0,
        z: float | None = 0.5,
        start: str = "uniform",
        observe_results: bool = False,
        invalid_reward: float = -10.0,
        stacking: bool = True,
        render_mode: str | None = None,
        observe_mask: bool | Sequence[str] = False,
    ) -> None:
        check_settings(budget, z, start, observe_results, invalid_reward, render_mode, observe_mask)
        self.mask_names = mask_names(observe_mask)
        self.candidates, self.scorer = candidates, scorer
        self.observe_results, self.render_mode = observe_results, render_mode
        self.make_incumbents = partial(
            Incumbents, candidates, scorer, float(budget), z, start, float(invalid_reward), stacking
        )
        self.incumbents = self.make_incumbents(1)
        self.action_space = spaces.Discrete(len(self.incumbents.edits))
        self.observation_space = self._observation_space()
        self._begun = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observed, dict[str, Any]]:
        """Begin an episode; `seed` makes everything that follows reproducible, and there are no
        options. ValueError where the budget does not pay for the start."""
        self.checked_options(options or {})
        super().reset(seed=seed)
        self.incumbents.begin(np.ones(1, np.bool_), self.np_random)
        self._begun = True
        self._show()
        return self._observation(), self._info()

    def step(self, action: np.int64) -> tuple[Observed, float, bool, bool, dict[str, Any]]:
        """Try one edit; ResetNeeded before `reset` or after the end, ValueError outside the action
        space."""
        if self._held().ended[0]:
            raise ResetNeeded("the episode has ended: call reset() before the next step()")
        if not self.action_space.contains(action):
            raise ValueError(
                f"an action is an integer from 0 to {self.action_space.n - 1}, got {action!r}"
            )
        rewards = self.incumbents.step(np.array([action]), np.ones(1, np.bool_), self.np_random)
        self._show()
        ended = bool(self.incumbents.ended[0])
        return self._observation(), float(rewards[0]), ended, False, self._info()

    @property
    def merging_map(self) -> NDArray[np.float32]:
        """The incumbent's merging map as a matrix, shape (N+M, L)."""
        return self._held().maps[0]

    def action_masks(self) -> NDArray[np.int8]:
        """1 for each allowed action, int8 (the name that sb3-contrib calls)."""
        return self._held().mask()[0].astype(np.int8)

    def recipe(self) -> Recipe:
        """The incumbent."""
        return self._held().recipe(0)

    def render(self) -> str | NDArray[np.uint8] | None:
        """The incumbent's map as text (`ansi`) or as a picture, uint8 of shape (H, W, 3)."""
        if self.render_mode == "rgb_array":
            return draw_map(self.merging_map, self.candidates)
        if self.render_mode == "ansi":
            return write_map(self.merging_map, self.candidates)
        return None

    def checked_options(self, options: dict[str, Any]) -> None:
        """ValueError for any: `reset` has none."""
        if options:
            raise ValueError(f"reset takes no options here, got {options!r}")

    def _held(self) -> Incumbents:
        if not self._begun:
            raise ResetNeeded("no episode has begun: call reset() first")
        return self.incumbents

    def _show(self) -> None:
        if self.render_mode == "human":
            print(write_map(self.merging_map, self.candidates))

    def _observation(self) -> Observed:
        observation = observations(self.incumbents, self.observe_results)[0]
        return with_mask(observation, self.action_masks(), self.mask_names)

    def _info(self) -> dict[str, Any]:
        return {key: _plain(value) for key, value in infos(self.incumbents).items()}

    def _observation_space(self) -> spaces.Box | spaces.Dict:
        cells = self.incumbents.edits.candidates * self.incumbents.edits.layers
        low, high = np.zeros(cells, np.float32), np.full(cells, 2, np.float32)
        if self.observe_results:
            worst = np.full(len(self.incumbents.edits), WORST, np.float32)
            low = np.concatenate([low, -worst, np.zeros(1, np.float32)])
            high = np.concatenate([high, worst, np.ones(1, np.float32)])
        box = spaces.Box(low, high, dtype=np.float32)
        return space_with_mask(box, len(self.incumbents.edits), self.mask_names)


class ModelEditVectorEnv(LockstepVectorEnv):
    """N environments of one scorer, stepped together.

    Each row follows the rules of a single environment; their challengers race side by side, scored
    together, and all draw from one generator. With N = 1 every number equals the single
    environment's. Infos, `reset` and the three modes of automatic resets are as
    `LockstepVectorEnv` says.

    Args:
        single: one environment, which gives candidates, scorer and settings.
        num_envs: N.
        autoreset_mode: one of gymnasium's three.

    Example:
        >>> import gymnasium as gym, merge_gym
        >>> envs = gym.make_vec("ModelEdit-v0", num_envs=3, suite="fashion-halves-0")
        >>> observations, infos = envs.reset(seed=0)
        >>> observations.shape, infos["evaluation_cost"].dtype
        ((3, 42), dtype('int64'))
    """

    single: ModelEditEnv

    def __init__(
        self,
        single: ModelEditEnv,
        num_envs: int = 1,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        super().__init__(single, num_envs, autoreset_mode)
        self.incumbents = single.make_incumbents(num_envs)

    def action_masks(self) -> NDArray[np.int8]:
        """1 for each allowed action, int8, shape (N, L·(N+M+2))."""
        return self.incumbents.mask().astype(np.int8)

    def recipes(self) -> tuple[Recipe, ...]:
        """The incumbent of each environment."""
        return tuple(self.incumbents.recipe(row) for row in range(self.num_envs))

    def render(self) -> tuple[str | NDArray[np.uint8], ...] | None:
        """Each incumbent's map as text or as a picture."""
        if self.render_mode is None:
            return None
        draw = draw_map if self.render_mode == "rgb_array" else write_map
        return tuple(draw(each, self.single.candidates) for each in self.incumbents.maps)

    def _own(self) -> dict[str, Any]:
        return {
            "recipe": self.recipes,
            "action_masks": self.action_masks,
            "merging_map": lambda: self.incumbents.maps,
        }

    def _seeded(self, seed: int | None) -> None:
        """There is nothing beside the generator."""

    def _begin(self, rows: Flags, asked: None = None) -> None:
        self.incumbents.begin(rows, self.np_random)

    def _advance(
        self, actions: NDArray[np.int64], rows: Flags
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        return self.incumbents.step(actions, rows, self.np_random), self._infos()

    def _ended(self) -> Flags:
        return self.incumbents.ended

    def _observations(self) -> NDArray[np.float32]:
        return observations(self.incumbents, self.single.observe_results)

    def _infos(self) -> dict[str, Any]:
        stacked = infos(self.incumbents)
        return self._masked(stacked | {"scores": self._masked(stacked["scores"])})


def observations(incumbents: Incumbents, results: bool) -> NDArray[np.float32]:
    """What is observed of each incumbent, a fresh array."""
    maps = incumbents.maps.reshape(incumbents.count, -1)
    if not results:
        return maps
    left = 1 - incumbents.spent[:, None] / incumbents.total
    return np.concatenate([maps, incumbents.results, left], axis=1, dtype=np.float32)


def infos(incumbents: Incumbents) -> dict[str, Any]:
    """The infos of all incumbents, arrays of one entry each."""
    return {
        "action_mask": incumbents.mask().astype(np.int8),
        "taken": incumbents.encoded(),
        "depth": incumbents.depth,
        "scores": {task: of.copy() for task, of in incumbents.scores.items()},
        "score": incumbents.score,
        "won": incumbents.won.copy(),
        "subsets": incumbents.met.copy(),
        "evaluation_cost": incumbents.spent.copy(),
    }


def _plain(value: Any) -> Any:
    """The only entry of an array, a number as Python's; of a mapping, of each of its values."""
    if isinstance(value, dict):
        return {key: _plain(of) for key, of in value.items()}
    return value[0] if value.ndim > 1 else value[0].item()


def check_settings(
    budget: Any,
    z: Any,
    start: Any,
    observe_results: Any,
    invalid_reward: Any,
    render_mode: Any,
    observe_mask: Any,
) -> None:
    """ValueError for a setting of another kind or out of range."""
    if not _number(budget) or budget < 1:
        raise ValueError(f"budget is a number of full evaluations of at least 1, got {budget!r}")
    if z is not None and (not _number(z) or z < 0):
        raise ValueError(f"z is a number of at least 0, or None, got {z!r}")
    if start not in STARTS:
        raise ValueError(f"start is one of {', '.join(STARTS)}, got {start!r}")
    if not isinstance(observe_results, bool):
        raise ValueError(f"observe_results is true or false, got {observe_results!r}")
    if not _number(invalid_reward):
        raise ValueError(f"invalid_reward is a finite number, got {invalid_reward!r}")
    modes = ModelEditEnv.metadata["render_modes"]
    if render_mode is not None and render_mode not in modes:
        raise ValueError(f"render_mode is one of {modes}, got {render_mode!r}")
    mask_names(observe_mask)


def _number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and bool(np.isfinite(value))
