"""What a policy builds when it does not explore."""

from __future__ import annotations

from typing import Any

from sb3_contrib import MaskablePPO
from stable_baselines3.common.base_class import BaseAlgorithm

from merge_gym.envs.model_merge import ModelMergeEnv
from merge_gym.recipe import Recipe


def greedy_recipe(model: BaseAlgorithm, env: ModelMergeEnv) -> Recipe | None:
    """The recipe of an episode of likeliest actions, without scoring it; None if it is invalid.

    Played in a fork, so that `env` stays as it is.
    """
    fork = env.fork()
    observation, info = fork.reset()
    while True:
        masks: dict[str, Any] = {}
        if isinstance(model, MaskablePPO):
            masks["action_masks"] = info["action_mask"]
        action, _ = model.predict(observation, deterministic=True, **masks)
        assert fork.episode is not None
        after = fork.episode.copy()
        after.step(int(action))
        if after.ended:
            return fork.candidates.recipe(after.taken) if after.complete else None
        observation, *_, info = fork.step(action)
