"""Search over layer-wise recipes for merging fine-tuned transformers, as a Gymnasium environment.

Importing this module registers `ModelMerge-v0`, `ModelMergeTable-v0` and `ModelEdit-v0`, free of
torch; public names load what they need when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gymnasium.envs.registration import register

__version__ = "0.1.0"

_HOMES = {
    "Evaluator": "merge_gym.evaluation.engine",
    "Layer": "merge_gym.recipe",
    "LayerBank": "merge_gym.merging.bank",
    "ModelEditEnv": "merge_gym.envs.model_edit",
    "ModelEditVectorEnv": "merge_gym.envs.model_edit",
    "ModelMergeEnv": "merge_gym.envs.model_merge",
    "ModelMergeVectorEnv": "merge_gym.envs.vector",
    "Outcome": "merge_gym.evaluation.scorer",
    "Recipe": "merge_gym.recipe",
    "ReferenceEvaluator": "merge_gym.evaluation.reference",
    "Request": "merge_gym.evaluation.scorer",
    "Scorer": "merge_gym.evaluation.scorer",
    "Source": "merge_gym.recipe",
    "Study": "merge_gym.studies.study",
    "Suite": "merge_gym.suites",
    "Table": "merge_gym.evaluation.table",
    "Calibration": "merge_gym.recipe",
    "calibrate": "merge_gym.merging.heads",
    "export": "merge_gym.exports.checkpoints",
    "export_library": "merge_gym.exports.library",
    "Library": "merge_gym.library",
    "list_suites": "merge_gym.suites",
    "list_tables": "merge_gym.evaluation.table_file",
    "load_library": "merge_gym.exports.library",
    "load_suite": "merge_gym.suites",
    "load_table": "merge_gym.evaluation.table",
}
_MODULES = ("operators", "rewards", "spaces")

__all__ = [
    "Calibration",
    "Evaluator",
    "Layer",
    "LayerBank",
    "Library",
    "ModelEditEnv",
    "ModelEditVectorEnv",
    "ModelMergeEnv",
    "ModelMergeVectorEnv",
    "Outcome",
    "Recipe",
    "ReferenceEvaluator",
    "Request",
    "Scorer",
    "Source",
    "Study",
    "Suite",
    "Table",
    "__version__",
    "calibrate",
    "export",
    "export_library",
    "list_suites",
    "list_tables",
    "load_library",
    "load_suite",
    "load_table",
    "operators",
    "rewards",
    "spaces",
]

if TYPE_CHECKING:
    from merge_gym import operators, rewards, spaces
    from merge_gym.envs.model_edit import ModelEditEnv, ModelEditVectorEnv
    from merge_gym.envs.model_merge import ModelMergeEnv
    from merge_gym.envs.vector import ModelMergeVectorEnv
    from merge_gym.evaluation.engine import Evaluator
    from merge_gym.evaluation.reference import ReferenceEvaluator
    from merge_gym.evaluation.scorer import Outcome, Request, Scorer
    from merge_gym.evaluation.table import Table, load_table
    from merge_gym.evaluation.table_file import list_tables
    from merge_gym.exports.checkpoints import export
    from merge_gym.exports.library import export_library, load_library
    from merge_gym.library import Library
    from merge_gym.merging.bank import LayerBank
    from merge_gym.merging.heads import calibrate
    from merge_gym.recipe import Calibration, Layer, Recipe, Source
    from merge_gym.studies.study import Study
    from merge_gym.suites import Suite, list_suites, load_suite


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _MODULES:
        return import_module(f"merge_gym.{name}")
    raise AttributeError(f"module 'merge_gym' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


register(
    id="ModelMerge-v0",
    entry_point="merge_gym.envs.making:make_env",
    vector_entry_point="merge_gym.envs.making:make_vector_env",
)
register(
    id="ModelMergeTable-v0",  # for what takes an id and no settings
    entry_point="merge_gym.envs.making:make_env",
    vector_entry_point="merge_gym.envs.making:make_vector_env",
    kwargs={"table": "fashion-halves-0"},
    reward_threshold=72.0,  # the best uniform merge; the optimum has 76.2
)
register(
    id="ModelEdit-v0",
    entry_point="merge_gym.envs.making:make_edit_env",
    vector_entry_point="merge_gym.envs.making:make_edit_vector_env",
)
