"""The program that compares all operators on one suite."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from experiments import operators as program
from experiments.measuring import measure
from merge_gym import Evaluator, LayerBank, operators
from tests.experiments.programs import call


@pytest.fixture(scope="module")
def quick(suite):
    """The tiny suite with a handful of examples."""

    def shortened(task):
        splits = {name: split[:6] for name, split in task.splits.items()}
        return dataclasses.replace(task, splits=splits)

    return dataclasses.replace(
        suite, tasks={name: shortened(task) for name, task in suite.tasks.items()}
    )


def with_a_third_expert(suite, *, task: bool):
    third = dataclasses.replace(suite.tasks["low"], name="third", expert="third")
    return dataclasses.replace(
        suite,
        experts={**suite.experts, "third": suite.experts["low"]},
        tasks={**suite.tasks, **({"third": third} if task else {})},
    )


def printed(suite) -> str:
    bank = LayerBank(suite, operators=[])
    rows, costs = program.compare(bank, Evaluator(bank, subsets=1))
    text = io.StringIO()
    program.show(rows, costs, bank, Console(width=200, file=text))
    return text.getvalue()


def test_two_experts_can_be_merged_by_every_operator(quick):
    text = printed(quick)
    for name in (*operators.available(), "expert low", "expert high"):
        assert f" {name} " in text
    assert "cost of fisher, regmean includes running the experts" in text
    assert "Left out" not in text


def test_with_three_experts_the_operators_of_two_are_left_out_and_say_why(quick):
    text = printed(with_a_third_expert(quick, task=True))
    assert "Left out: Operator 'slerp' merges exactly 2 experts, but 3 were given" in text
    assert "Left out: Operator 'nuslerp' merges exactly 2 experts, but 3 were given" in text
    assert text.count("Left out") == 2
    assert " expert third " in text


def test_where_an_expert_has_no_task_the_operators_that_look_at_data_are_left_out(quick):
    bank = LayerBank(with_a_third_expert(quick, task=False), operators=[])
    names, refused = program.fitting(bank)
    assert set(refused) == {"slerp", "nuslerp", "regmean", "fisher"}
    assert "no task belongs to third" in refused["regmean"]
    assert sorted((*names, *refused)) == list(operators.available())


def test_distances_are_multiples_of_the_mean_task_vector_norm():
    models = {
        "pretrained": torch.tensor([0.0, 0.0], dtype=torch.float16),
        "one": torch.tensor([3.0, 0.0], dtype=torch.float16),
        "two": torch.tensor([0.0, 1.0], dtype=torch.float16),
        "merge": torch.tensor([3.0, 4.0], dtype=torch.float16),
    }
    matrix = program.distances(models, experts=2)
    assert matrix[0].tolist() == [0, 1.5, 0.5, 2.5]
    assert matrix[1, 3] == 2
    assert np.array_equal(matrix, matrix.T)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_the_cost_counts_memory_that_was_freed_again_and_leaves_out_what_was_there():
    kept = torch.ones(2**24)
    cost = measure(lambda: (kept + 1).sum())
    assert 60 < cost.mebibytes < 100
    assert cost.seconds > 0


def test_the_program_leaves_a_report_and_a_picture(suite_file: Path, tmp_path: Path):
    directory = tmp_path / "run"
    finished = call("operators", f"suite={suite_file}", f"run_dir={directory}")
    assert finished.returncode == 0, finished.stderr
    assert "tiny: uniform merges" in finished.stdout
    with Image.open(directory / "distances.png") as picture:
        assert picture.width > 500
    report = json.loads((directory / "operators.json").read_text())
    names = [row["name"] for row in report["rows"]]
    assert names == ["low", "high", *operators.available()]
    assert report["rows"][2]["cost"]["seconds"] > 0
    assert report["distances"]["models"] == ["pretrained", *names]
    assert len(report["distances"]["matrix"]) == len(names) + 1
