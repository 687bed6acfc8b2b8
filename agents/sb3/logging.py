"""Where Stable-Baselines3 logs to."""

from __future__ import annotations

import shutil

from stable_baselines3.common.logger import Logger, configure

from merge_gym.studies.study import Study


def logger(study: Study) -> Logger:
    """TensorBoard files under `tensorboard/` in the study's directory, in place of those that were
    there; nowhere without a directory."""
    if study.directory is None:
        return Logger(None, [])
    directory = study.directory / "tensorboard"
    shutil.rmtree(directory, ignore_errors=True)
    return configure(str(directory), ["tensorboard"])
