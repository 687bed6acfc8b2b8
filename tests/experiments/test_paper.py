"""The paper's tables from finished runs."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest
from PIL import Image

from experiments import paper
from experiments.paper import PaperRun
from experiments.paper_figures import METHODS
from tests.experiments.programs import found, results, run

MERGES = (
    "baselines=[average,{name:task_arithmetic,weight:0.3},{name:task_arithmetic,weight:0.6},dare]"
)


@pytest.fixture(scope="module")
def runs(suite_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rewards on all, 1/10 and 1/100 of the data, the last with and without DAR."""
    folder = tmp_path_factory.mktemp("paper")
    asked = ((1, "plain"), (10, "plain"), (10, "dynamic_average"))
    for number, (subsets, reward) in enumerate(asked):
        settings = [f"subsets={subsets}", f"reward={reward}", "agent=random", "episodes=12", MERGES]
        run("train", suite_file, folder / str(number), *settings)
    return folder


def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, *words: str) -> str:
    monkeypatch.setattr("sys.argv", ["paper", *words])
    paper.main()
    return capsys.readouterr().out


def test_a_method_has_the_figure_of_its_best_setting_on_the_search_split(runs: Path) -> None:
    rows = results(runs / "0")["rows"]
    arithmetic = [row for row in rows if row["name"].startswith("task_arithmetic")]
    assert len(arithmetic) > 1
    best = max(arithmetic, key=lambda row: sum(row["search"].values()))
    figures = PaperRun.read(runs / "0").figures()
    assert figures["task arithmetic"] == pytest.approx(100 * fmean(best["test"].values()))
    assert figures["RMM"] == pytest.approx(100 * fmean(found(runs / "0")["test"].values()))


def test_the_table_has_a_row_for_each_method_beside_the_papers(
    runs: Path, monkeypatch, capsys
) -> None:
    lines = printed(monkeypatch, capsys, "I", str(runs)).splitlines()
    for method in METHODS:
        assert any(method in line for line in lines)
    assert any("RMM" in line and "79.5" in line and "86.1" in line for line in lines)


def test_the_ablation_tells_shares_of_the_data_and_rewards_apart(
    runs: Path, monkeypatch, capsys
) -> None:
    text = printed(monkeypatch, capsys, "IV", str(runs))
    row = next(line for line in text.splitlines() if "here, with DAR" in line)
    assert row.count("–") == 2  # only a tenth was run with it
    row = next(line for line in text.splitlines() if "here, without DAR" in line)
    assert row.count("–") == 1
    with Image.open(runs / "rewards.png") as picture:
        assert picture.width > 200


def test_a_folder_without_runs_is_refused(tmp_path: Path, monkeypatch, capsys) -> None:
    with pytest.raises(SystemExit, match="no run has finished"):
        printed(monkeypatch, capsys, "II", str(tmp_path))
