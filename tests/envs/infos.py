"""What every info of `ModelMerge-v0` holds, and how infos are compared."""

from __future__ import annotations

import numpy as np

KINDS = {
    "action_mask": np.int8,
    "taken": np.int64,
    "depth": np.int64,
    "scored": np.bool_,
    "scores": dict,
    "raw_reward": np.float64,
    "subset": np.int64,
    "pass_position": np.int64,
    "evaluation_cost": np.int64,
}
PLAIN = {np.int64: int, np.float64: float, np.bool_: bool}


def check_info(info, tasks, candidates, max_steps):
    """The info of one environment: the same keys, types and shapes at every step."""
    assert list(info) == list(KINDS)
    for key, kind in KINDS.items():
        if key in ("action_mask", "taken"):
            assert info[key].dtype == kind
        elif key != "scores":
            assert type(info[key]) is PLAIN[kind], key
    assert info["action_mask"].shape == (candidates + 2,)
    assert info["taken"].shape == (max_steps,)
    assert list(info["scores"]) == list(tasks)
    assert all(type(score) is float for score in info["scores"].values())


def check_infos(infos, tasks, count, candidates, max_steps):
    """The infos of a vector of environments, none of which has just been reset at once."""
    assert set(infos) == {*KINDS, *(f"_{key}" for key in KINDS)}
    for key, kind in KINDS.items():
        assert infos[f"_{key}"].tolist() == [True] * count
        if key != "scores":
            assert infos[key].dtype == kind, key
    assert infos["action_mask"].shape == (count, candidates + 2)
    assert infos["taken"].shape == (count, max_steps)
    assert set(infos["scores"]) == {*tasks, *(f"_{task}" for task in tasks)}
    for task in tasks:
        assert infos["scores"][task].dtype == np.float64
        assert infos["scores"][f"_{task}"].tolist() == [True] * count


def assert_same_infos(given, expected):
    """Equal keys, masks, dtypes, and values where the masks say that there are any."""
    assert given.keys() == expected.keys()
    for key, value in expected.items():
        mask = expected.get(f"_{key}", np.ones(1, np.bool_))
        if isinstance(value, dict):
            assert_same_infos(given[key], value)
        elif value.dtype == object:
            for row in np.flatnonzero(mask):
                np.testing.assert_array_equal(given[key][row], value[row])
        else:
            assert given[key].dtype == value.dtype, key
            rows = mask if len(mask) == len(value) else slice(None)
            np.testing.assert_array_equal(given[key][rows], value[rows], err_msg=key)
