"""What the vector environments share: many episodes stepped together, begun anew where they end."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from merge_gym.envs.observing import Observed, row_of, with_mask

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]


class LockstepVectorEnv(VectorEnv[Observed, NDArray[np.int64], NDArray[Any]]):
    """N environments of one scorer, stepped together.

    Infos are those of the single environment, stacked, each with its `_key` mask. With
    `autoreset_mode` NEXT_STEP (the default) an ended environment is reset by the next step, which
    ignores its action; with SAME_STEP at once, and its last observation and info stand in
    `final_obs` and `final_info`; with DISABLED by `reset(options={"reset_mask": …})`.

    Args:
        single: one environment, which gives the rules and the settings.
        num_envs: N.
        autoreset_mode: one of gymnasium's three.
    """

    single: Any

    def __init__(
        self,
        single: Any,
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
        self._begun = False

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observed, dict[str, Any]]:
        """Begin an episode in every environment, or in those of `options["reset_mask"]`.

        Args:
            seed: makes everything that follows reproducible. The environments share what is random,
                so of a list with one seed for each the first decides.
            options: as in the single environment, for the episodes that begin now; `reset_mask`,
                bool of shape (N,), names the environments that begin.
        """
        given = dict(options or {})
        rows = self._checked_mask(given.pop("reset_mask", None))
        asked = self.single.checked_options(given)
        first = self._first_seed(seed)
        super().reset(seed=first)
        self._seeded(first)
        self._begin(rows, asked)
        self._begun = True
        return self._observed(), self._infos()

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[Observed, NDArray[np.float64], Flags, Flags, dict[str, Any]]:
        """Apply an action in each environment; what ended before begins anew, see
        `autoreset_mode`."""
        actions, ended = self._checked_actions(actions), self._ended()
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            self._begin(ended)
        elif ended.any():
            raise ResetNeeded(
                "an episode has ended: reset it with options={'reset_mask': …} before the next step"
            )
        rewards, infos = self._advance(actions, ~ended)
        terminations = self._ended()
        if terminations.any() and self.autoreset_mode is AutoresetMode.SAME_STEP:
            infos = self._begin_at_once(terminations, infos)
        truncations = np.zeros(self.num_envs, np.bool_)
        return self._observed(), rewards, terminations, truncations, infos

    @abstractmethod
    def action_masks(self) -> NDArray[np.int8]:
        """1 for each allowed action, int8, shape (N, actions)."""

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """An attribute of the environments, or what it returns where it is a method; what depends
        on an episode is each one's own."""
        own = self._own()
        if name in own:
            return tuple(own[name]())
        value = getattr(self.single, name)
        return (value(*args, **kwargs) if callable(value) else value,) * self.num_envs

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """An attribute of each environment."""
        return self.call(name)

    @abstractmethod
    def _own(self) -> dict[str, Any]:
        """{attribute: what lists its values}, of attributes that depend on an episode."""

    @abstractmethod
    def _seeded(self, seed: int | None) -> None:
        """`np_random` was seeded, or was not."""

    @abstractmethod
    def _begin(self, rows: Flags, asked: Any = None) -> None:
        """Begin an episode in `rows`, as the single environment's `checked_options` say."""

    @abstractmethod
    def _advance(
        self, actions: NDArray[np.int64], rows: Flags
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Apply the actions of `rows`; rewards and infos of all."""

    @abstractmethod
    def _ended(self) -> Flags:
        """Which episodes are over, shape (N,)."""

    @abstractmethod
    def _observations(self) -> Floats:
        """What is observed of the environments, a fresh array."""

    @abstractmethod
    def _infos(self) -> dict[str, Any]:
        """The infos of a step in which no episode ends."""

    def _observed(self) -> Observed:
        """What the environments show, with the mask where the single one shows it."""
        return with_mask(self._observations(), self.action_masks(), self.single.mask_names)

    def _masked(self, infos: dict[str, Any]) -> dict[str, Any]:
        """Infos that every environment has, with the masks that say so."""
        everywhere = np.ones(self.num_envs, np.bool_)
        return infos | {f"_{key}": everywhere for key in infos}

    def _begin_at_once(self, ended: Flags, infos: dict[str, Any]) -> dict[str, Any]:
        """Keep what the ended episodes showed last, and begin the next ones."""
        last = np.full(self.num_envs, None, object)
        observed = self._observed()
        for row in np.flatnonzero(ended).tolist():
            last[row] = row_of(observed, row)
        self._begin(ended)
        return self._infos() | {
            "final_obs": last,
            "_final_obs": ended.copy(),
            "final_info": _only(infos, ended),
            "_final_info": ended.copy(),
        }

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
        if not self._begun and not checked.all():
            raise ResetNeeded("no episode has begun: reset all environments first")
        return checked

    def _checked_actions(self, actions: Any) -> NDArray[np.int64]:
        if not self._begun:
            raise ResetNeeded("no episode has begun: call reset() first")
        checked = np.asarray(actions)
        inside = checked.shape == (self.num_envs,) and np.issubdtype(checked.dtype, np.integer)
        count = int(self.single_action_space.n)
        if not inside or ((checked < 0) | (checked >= count))[~self._ended()].any():
            raise ValueError(
                f"actions are {self.num_envs} integers from 0 to {count - 1}, got {actions!r}"
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
