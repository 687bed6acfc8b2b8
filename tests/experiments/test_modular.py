"""The program that searches which experts share which modules."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from merge_gym import load_library, load_suite
from tests.experiments.programs import call

QUICK = ["budget=20", "subsets=5", "router=means", "point=1.5"]


def test_a_run_leaves_a_library_that_scores_as_its_table_says_and_exports_other_points(
    suite_file: Path, tmp_path: Path
) -> None:
    done = call("modular", f"suite={suite_file}", f"run_dir={tmp_path / 'run'}", *QUICK)
    assert done.returncode == 0, done.stderr
    assert "experts, int4" in done.stdout
    for name in ("front.png", "modules.png", "trials.jsonl", "library-1.5/library.json"):
        assert (tmp_path / "run" / name).is_file(), name

    rows = json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    found = [row for row in rows if row["name"].startswith("found") and row["models"] <= 1.5]
    row = max(found, key=lambda row: sum(row["scores"]["search"].values()))
    library = load_library(tmp_path / "run" / "library-1.5")
    for task, of in load_suite(suite_file).tasks.items():
        split = of.splits["test"]
        predicted = library.predict(split.inputs, [task] * len(split))
        labels = split.labels.tolist()
        right = [label == true for (_, label), true in zip(predicted, labels, strict=True)]
        assert sum(right) / len(right) == pytest.approx(row["scores"]["test"][task])

    again = call("modular", f"resume={tmp_path / 'run'}", "point=2")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "run" / "library-2" / "library.json").is_file()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("point=0.6", "at least one model"),
        ("router=mpl", "mlp"),
        ("threads=0", "threads is a whole number of at least 1"),
        ("space=walk", "modular"),
    ],
)
def test_what_does_not_fit_is_one_line(
    suite_file: Path, tmp_path: Path, override: str, message: str
) -> None:
    done = call("modular", f"suite={suite_file}", f"run_dir={tmp_path / 'run'}", override)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
