"""Search over layer-wise recipes for merging fine-tuned transformers, as a Gymnasium environment.

Importing this module registers `ModelMerge-v0` and stays free of torch; the public names load
what they need when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gymnasium.envs.registration import register

__version__ = "0.1.0"

_HOMES = {
    "Evaluator": "merge_gym.evaluation",
    "LayerBank": "merge_gym.merging.bank",
    "ModelMergeEnv": "merge_gym.envs.model_merge",
    "ModelMergeVectorEnv": "merge_gym.envs.vector",
    "Recipe": "merge_gym.recipe",
    "ReferenceEvaluator": "merge_gym.evaluation",
    "Source": "merge_gym.recipe",
    "Suite": "merge_gym.suites",
    "export": "merge_gym.exports.checkpoints",
    "list_suites": "merge_gym.suites",
    "load_suite": "merge_gym.suites",
}
_MODULES = ("operators", "rewards")

__all__ = [
    "Evaluator",
    "LayerBank",
    "ModelMergeEnv",
    "ModelMergeVectorEnv",
    "Recipe",
    "ReferenceEvaluator",
    "Source",
    "Suite",
    "__version__",
    "export",
    "list_suites",
    "load_suite",
    "operators",
    "rewards",
]

if TYPE_CHECKING:
    from merge_gym import operators, rewards
    from merge_gym.envs.model_merge import ModelMergeEnv
    from merge_gym.envs.vector import ModelMergeVectorEnv
    from merge_gym.evaluation import Evaluator, ReferenceEvaluator
    from merge_gym.exports.checkpoints import export
    from merge_gym.merging.bank import LayerBank
    from merge_gym.recipe import Recipe, Source
    from merge_gym.suites import Suite, list_suites, load_suite


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _MODULES:
        return import_module(f"merge_gym.{name}")
    raise AttributeError(f"module 'merge_gym' has no attribute {name!r}")


register(
    id="ModelMerge-v0",
    entry_point="merge_gym.envs.model_merge:make_env",
    vector_entry_point="merge_gym.envs.vector:ModelMergeVectorEnv",
)
