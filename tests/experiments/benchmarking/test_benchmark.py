"""Plans, runs, store and page of the benchmark, on small tables."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import benchmark
from experiments.benchmarking import results
from experiments.benchmarking.page import page, summary
from experiments.benchmarking.plan import Job, Plan, open_table
from experiments.benchmarking.playing import play
from experiments.benchmarking.standings import Standings
from experiments.benchmarking.store import Result, Store
from tests.experiments.benchmarking.tables import accuracies, write_table

ROOT = Path(__file__).parents[3]


def test_a_plan_runs_every_agent_on_every_table_with_every_budget_and_seed(plan: Plan) -> None:
    jobs = list(plan.jobs())
    assert len(jobs) == 2 * 3 * (2 + 2 + 1)
    assert len({job.key for job in jobs}) == len(jobs)
    assert [job.seed for job in jobs] == sorted(job.seed for job in jobs)
    chance = next(job for job in jobs if job.label == "chance" and job.budget == 12)
    assert (chance.make_agent().episodes, chance.make_agent().top) == (48, 3)


def test_a_run_is_known_by_all_that_it_depends_on(plan: Plan) -> None:
    job = next(job for job in plan.jobs() if job.label == "evolution")
    same = dataclasses.replace(job, label="other", settings='{"z": 0.5}')  # the default
    assert same.key == job.key
    changes = {"settings": '{"z": 0.6}', "budget": 4, "seed": 9, "subsets": 4}
    changes |= {"table": plan.tables[1], "agent": "edit_actor_critic"}
    keys = {dataclasses.replace(job, **{name: value}).key for name, value in changes.items()}
    assert len(keys | {job.key}) == 1 + len(changes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"agents": {"evolutoin": {}}}, "unknown agent 'evolutoin'. Did you mean 'evolution'"),
        ({"agents": {"evolution": {"zz": 1}}}, "unknown setting of agent 'evolution' 'zz'"),
        ({"agents": {"random": {"top": 30}}}, "random on .*, budget 3, seed 0: the 30 recipes"),
        ({"tables": ["fashion-halfs-0"]}, "there is no table 'fashion-halfs-0'"),
        ({"budgets": [30, 10]}, "ascending"),
        ({"budgets": [0]}, "budgets are full evaluations"),
        ({"seeds": 0}, "at least 1, got 0"),
        ({"seeds": True}, "at least 1, got True"),
        ({"subsets": 2.5}, "subsets is how many there are"),
        ({"subsets": 99}, "between 1 and the 40 examples"),
        ({"agents": {}}, "at least one table and one agent"),
        ({"agents": {"evolution": None}}, "an agent's line is a mapping"),
        ({"agents": {"random": {"times_budget": {"top": "x"}}}}, "times_budget is a mapping of"),
        ({"agents": {"evolution": {"up_to": 0}}}, "up_to a number above 0"),
        ({"suites": []}, "a plan gives tables, budgets"),
    ],
)
def test_a_plan_that_cannot_be_run_is_refused(
    given: dict[str, Any], change: dict[str, Any], words: str
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        Plan.read(given | change)


def test_a_row_says_what_the_table_says_of_the_found_recipe(
    plan: Plan, rows: list[results.Row]
) -> None:
    assert len(rows) == len(list(plan.jobs()))
    for row in rows:
        table = open_table(row.table, plan.subsets)
        search, test = (100 * accuracies(table, split) for split in ("search", "test"))
        assert row.search == pytest.approx(search[row.found])
        assert row.test == pytest.approx(test[row.found])
        assert row.regret == pytest.approx(search.max() - search[row.found], abs=1e-3)
        assert 0 < row.spent <= row.budget * table.whole_cost()
        curve = row.result.curve
        assert curve[-1][1] == row.found
        assert list(curve) == sorted(curve)
        assert np.all(np.diff([search[place] for _, place in curve]) > 0)


def test_results_are_read_as_they_were_written(rows: list[results.Row], tmp_path: Path) -> None:
    results.write_rows(tmp_path / "results.csv", rows)
    assert results.read_rows(tmp_path / "results.csv") == rows
    text = (tmp_path / "results.csv").read_text()
    for bad in (text[:-40], text.replace("seed", "sead", 1), text.replace(",0,5,", ",x,5,", 1)):
        (tmp_path / "results.csv").write_text(bad)
        with pytest.raises(ValueError, match="holds no results of a benchmark: "):
            results.read_rows(tmp_path / "results.csv")


def test_a_new_store_begins_with_the_results_that_are_there(
    plan: Plan, rows: list[results.Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results.write_rows(tmp_path / "results.csv", rows[:-2])
    monkeypatch.setattr("experiments.benchmarking.playing.ProcessPoolExecutor", Here)
    played: list[str] = []
    monkeypatch.setattr(
        "experiments.benchmarking.playing.play", lambda job: played.append(job.key) or play(job)
    )
    assert benchmark.run(plan, tmp_path, workers=1) == []
    assert sorted(played) == sorted(row.job.key for row in rows[-2:])
    assert results.read_rows(tmp_path / "results.csv")[:-2] == rows[:-2]


def test_a_table_without_the_test_split_leaves_test_accuracy_out(
    given: dict[str, Any], tmp_path: Path
) -> None:
    table = str(write_table(tmp_path / "0.safetensors", test=False))
    agents = {"evolution": {}}
    plan = Plan.read(given | {"tables": [table], "agents": agents, "seeds": 1, "budgets": [3]})
    rows = [results.Row.of(job, play(job)) for job in plan.jobs()]
    assert [row.test for row in rows] == [None]
    results.write_rows(tmp_path / "results.csv", rows)
    assert results.read_rows(tmp_path / "results.csv") == rows
    assert Standings(plan, rows).at("evolution", 3).test is None


def test_standings_count_the_seeds_that_are_there_on_every_table(
    plan: Plan, rows: list[results.Row]
) -> None:
    standings = Standings(plan, rows)
    assert set(standings.labels(3)) == {"chance", "evolution", "slow"}
    assert set(standings.labels(12)) == {"chance", "evolution"}
    assert standings.all_labels()[-1] == "slow"
    regrets = standings.regrets("evolution", 12)
    assert regrets.shape == (2, 3)
    for table, seed in np.ndindex(2, 3):
        (row,) = (
            row
            for row in rows
            if (row.label, row.budget) == ("evolution", 12)
            and (row.table, row.seed) == (plan.tables[table], seed)
        )
        assert regrets[table, seed] == row.regret
    by_hand = np.sort(regrets.ravel())[1:-1].mean()
    assert standings.at("evolution", 12).regret.value == pytest.approx(by_hand)
    assert standings.at("evolution", 12).runs == 6
    fewer = [row for row in rows if (row.seed, row.table) != (1, plan.tables[1])]
    assert Standings(plan, fewer).regrets("evolution", 12).tolist() == regrets[:, :1].tolist()
    none = [row for row in rows if (row.label, row.seed) != ("slow", 0)]
    assert "slow" not in Standings(plan, none).all_labels()


class Outline(HTMLParser):
    """What a page asks of a browser."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "line", "circle", "polyline", "polygon"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_stands_alone_and_shows_every_figure(plan: Plan, rows: list[results.Row]) -> None:
    standings = Standings(plan, rows)
    text = page(standings)
    outline = Outline()
    outline.feed(text)
    assert outline.open == []
    assert outline.links == []
    assert not re.search(r"https?://|@import|url\(", text)
    assert "prefers-color-scheme: dark" in text
    for label, budget in (("chance", 3), ("evolution", 12)):
        assert f"{standings.at(label, budget).regret.value:.2f}" in outline.texts
    lines = list(csv.DictReader(summary(standings).splitlines()))
    assert len(lines) == 5
    best = max(lines, key=lambda line: (float(line["budget"]), -float(line["regret"])))
    assert best["agent"] == standings.labels(12)[0]


def test_labels_are_shown_as_they_are_written(given: dict[str, Any]) -> None:
    agents = {"<b>&\"'": {"name": "evolution"}}
    plan = Plan.read(given | {"agents": agents, "seeds": 1, "budgets": [3]})
    outline = Outline()
    outline.feed(page(Standings(plan, [results.Row.of(job, play(job)) for job in plan.jobs()])))
    assert "<b>&\"'" in outline.texts


def test_a_store_of_another_protocol_or_none_is_refused(tmp_path: Path) -> None:
    Store(tmp_path / "runs.sqlite").close()
    Store(tmp_path / "runs.sqlite").close()
    connection = sqlite3.connect(tmp_path / "runs.sqlite")
    with connection:
        connection.execute("UPDATE protocol SET version = 'merge_gym.benchmark/0'")
    connection.close()
    with pytest.raises(ValueError, match=r"holds runs of the protocol 'merge_gym\.benchmark/0'"):
        Store(tmp_path / "runs.sqlite")
    (tmp_path / "runs.sqlite").write_text("no database" * 200)
    with pytest.raises(ValueError, match="is no store of benchmark runs"):
        Store(tmp_path / "runs.sqlite")


def test_an_interrupted_benchmark_writes_what_there_is(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> Result:
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.benchmarking.playing.ProcessPoolExecutor", Here)
    monkeypatch.setattr("experiments.benchmarking.store.Store.add", stop)
    with pytest.raises(KeyboardInterrupt):
        benchmark.run(plan, tmp_path, workers=1)
    assert results.read_rows(tmp_path / "results.csv") == []
    assert "Searches for merged models" in (tmp_path / "report.html").read_text()


def test_a_run_that_fails_is_named_and_the_others_are_kept(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.benchmarking.playing.ProcessPoolExecutor", Here)
    monkeypatch.setattr("experiments.benchmarking.playing.play", fail_on_slow)
    failures = benchmark.run(plan, tmp_path, workers=1)
    assert len(failures) == 6
    assert all(re.match(r"slow on .*, budget 3, seed \d: ZeroDivision", line) for line in failures)
    assert len(results.read_rows(tmp_path / "results.csv")) == 24
    monkeypatch.setattr("experiments.benchmarking.playing.play", play)
    assert benchmark.run(plan, tmp_path, workers=1) == []
    assert len(results.read_rows(tmp_path / "results.csv")) == 30
    assert {"report.html", "summary.csv", "regret.png"} < {file.name for file in tmp_path.iterdir()}


class Here(ThreadPoolExecutor):
    """Runs in this process, so that no other has to be started."""

    def __init__(self, workers: int, context: object, begin: object) -> None:
        super().__init__(workers)


def fail_on_slow(job: Job) -> Result:
    return play(job) if job.label != "slow" else play(1 / 0)  # type: ignore[arg-type]


def test_a_killed_benchmark_leaves_no_process_and_runs_only_what_is_missing(
    given: dict[str, Any], plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "tiny.yaml").write_text(json.dumps(given))
    directory = tmp_path / "killed"
    arguments = ["--config-dir", str(tmp_path), "plan=tiny", f"directory={directory}", "workers=1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.benchmark", *arguments],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    keys = [job.key for job in plan.jobs()]
    while process.poll() is None and not kept(directory, keys):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    there = kept(directory, keys)
    assert 1 <= len(there) < len(keys)
    while processes_of(process.pid):
        time.sleep(0.05)

    played: list[str] = []
    monkeypatch.setattr("experiments.benchmarking.playing.ProcessPoolExecutor", Here)
    monkeypatch.setattr(
        "experiments.benchmarking.playing.play", lambda job: played.append(job.key) or play(job)
    )
    assert benchmark.run(plan, directory, workers=1) == []
    assert sorted([*played, *there]) == sorted(keys)
    clocks = {"seconds": 0.0}
    rows = [
        dataclasses.replace(row, **clocks) for row in results.read_rows(directory / "results.csv")
    ]
    again = [results.Row.of(job, play(job)) for job in plan.jobs()]
    assert rows == [dataclasses.replace(row, **clocks) for row in again]


def kept(directory: Path, keys: list[str]) -> list[str]:
    """The runs in a store that another process may be writing."""
    if not (directory / benchmark.STORE).exists():
        return []
    with Store(directory / benchmark.STORE) as store:
        return sorted(store.results(keys))


def processes_of(session: int) -> list[int]:
    """The processes of a session that are alive."""
    alive = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, of = stat.read_text().rpartition(")")[2].split()[:4]
            if int(of) == session and state != "Z":
                alive.append(int(stat.parent.name))
    return alive
