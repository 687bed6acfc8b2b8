"""Where Stable-Baselines3 logs to."""

from __future__ import annotations

from stable_baselines3.common.logger import Logger, configure

from merge_gym.studies.study import Study


def logger(study: Study) -> Logger:
    """TensorBoard files under `tensorboard/` in the study's directory; nowhere without one."""
    if study.directory is None:
        return Logger(None, [])
    return configure(str(study.directory / "tensorboard"), ["tensorboard"])
