"""What a run prints: few lines that fit a narrow terminal, and a sentence of its own figures."""

from __future__ import annotations

import io

from rich.console import Console

from experiments import operators, summarise
from experiments.accuracy_picture import accuracy_figure
from experiments.glance import lines, table, take_away
from experiments.measuring import Cost
from experiments.report import Row

TASKS = ("half-a", "half-b", "a task of a longer name")


def row(kind: str, name: str, level: float, source: dict | None = None, test: float = 0.0) -> Row:
    search = dict.fromkeys(TASKS, level)
    return Row(kind, name, source, search, {task: score + test for task, score in search.items()})


def arithmetic(weight: object) -> dict:
    return {"operator": "task_arithmetic", "weight": weight}


ROWS = [
    Row("expert", "one", {"expert": "one"}, dict(zip(TASKS, (0.9, 0.2, 0.8), strict=True)),
        dict(zip(TASKS, (0.88, 0.3, 0.7), strict=True))),
    Row("expert", "two", {"expert": "two"}, dict(zip(TASKS, (0.4, 0.8, 0.7), strict=True)),
        dict(zip(TASKS, (0.35, 0.82, 0.6), strict=True))),
    row("pretrained", "pretrained", 0.3, arithmetic(0.0)),
    row("uniform", "average", 0.5, {"operator": "average"}, test=0.2),
    row("uniform", "ties(density=0.2)", 0.6, {"operator": "ties", "density": 0.2}),
    row("uniform", "tsv_m", 0.62, {"operator": "tsv_m"}),
    row("uniform", "task_arithmetic(weight=[0.4, 0.1, 0.2])", 0.65, arithmetic([0.4, 0.1, 0.2])),
    row("found", "evolution", 0.7, test=0.01),
    row("calibrated", "pretrained", 0.6),
    row("calibrated", "expert one", 0.78),
    row("calibrated", "tsv_m", 0.75),
    row("calibrated", "found", 0.79),
    row("probe", "linear probe", 0.5),
]  # fmt: skip


def test_lines_are_chosen_by_the_search_split():
    shown = {line.label: line for line in lines(ROWS)}
    assert list(shown) == [
        "experts, each on its own task",
        "best of the paper's merges: ties(density=0.2)",
        "best other merge: tsv_m",
        "tuned λ per expert",
        "found by evolution",
        "found, with calibrated heads",
        "expert one, on every task",
        "expert two, on every task",
        "pretrained trunk, experts' heads",
        "pretrained, calibrated heads",
        "expert one, calibrated heads",
        "best uniform merge, calibrated heads",
        "pretrained trunk, heads learnt from labels",
    ]
    bound = shown["experts, each on its own task"]
    assert list(bound.test.values()) == [0.88, 0.82, 0.7]


def printed(width: int, make) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(make(console))
    return console.file.getvalue()


def headings(text: str) -> list[str]:
    """What stands above the columns of figures, word by word."""
    upper, lower = (line.strip("┃").split("┃")[1:] for line in text.splitlines()[2:4])
    return [f"{a.strip()} {b.strip()}".strip() for a, b in zip(upper, lower, strict=True)]


def test_tasks_go_before_means_and_the_test_mean_stays():
    means = ["search mean", "test mean"]
    wide, eighty, narrow = (
        headings(printed(width, lambda console: table(lines(ROWS), "title", console)))
        for width in (200, 80, 60)
    )
    search, test = ([f"{split} {task}" for task in TASKS] for split in ("search", "test"))
    assert wide == [*search, means[0], *test, means[1]]
    assert eighty == means
    assert narrow == means[1:]


def test_at_eighty_columns_no_label_is_cut():
    text = printed(80, lambda console: table(lines(ROWS), "title", console))
    assert "…" not in text
    assert all(line.label in text for line in lines(ROWS))


def test_the_operators_of_three_tasks_keep_their_means_at_eighty_columns():
    costs = {name: Cost(1.234, 56.7) for name in ("average", "ties(density=0.2)", "tsv_m")}
    rows = [row for row in ROWS if row.name in costs or row.kind == "expert"]

    def make(console: Console):
        return operators.score_table(rows, costs, "title", console)

    assert headings(printed(80, make)) == ["search mean", "test mean", "CPU seconds", "peak MiB"]
    assert headings(printed(40, make)) == ["search mean", "test mean"]
    assert headings(printed(130, make))[2] == TASKS[2]


def test_the_summary_keeps_what_was_found_at_eighty_columns():
    outcome = summarise.Outcome(
        "fashion-halves-0", "evolution", "Layerwise", 91.8, 62.1, 73.9, 73.9, 77.3
    )
    text = printed(80, lambda console: summarise.summary([outcome] * 2, console))
    assert all(word in text for word in ("fashion-halves-0", "Layerwise", "77.3 ± 0.0", "3.4"))
    assert "…" not in text


def test_the_summary_tells_runs_apart_by_everything_but_suite_and_seed_that_was_swept():
    runs = [
        summarise.Outcome(
            "one", "ppo", "Walk", 90, 60, 70, 70, 72, {"seed": seed, "agent.learning_rate": rate}
        )
        for seed in (0, 1)
        for rate in (1e-3, 3e-4)
    ]
    searches = summarise.grouped(runs)
    assert {settings: len(members) for (_, _, settings), members in searches.items()} == {
        "agent.learning_rate=0.001": 2,
        "agent.learning_rate=0.0003": 2,
    }
    text = printed(100, lambda console: summarise.summary(runs, console))
    assert "learning_rate=0.0003" in text
    assert "settings" not in printed(100, lambda console: summarise.summary(runs[::2], console))


def test_the_sentence_says_what_is_more_than_chance():
    shown = lines(ROWS)
    assert take_away(shown, examples=4000) == (
        "the found merge scores 71.0 %, 6.0 above tuned λ per expert (65.0); with calibrated heads "
        "it has 79.0, no different from expert one, calibrated heads (78.0) and no different from "
        "the experts (80.0)."
    )
    assert "1.0 above expert one, calibrated heads" in take_away(shown, examples=40_000)
    own = [line for line in shown if line.label != "found, with calibrated heads"]
    assert take_away(own, 4000).endswith("(65.0); 9.0 below the experts (80.0).")


def test_the_picture_cuts_off_no_label():
    figure = accuracy_figure(lines(ROWS), "tiny")
    figure.draw_without_rendering()
    axes = figure.axes[0]
    boxes = [label.get_window_extent() for label in axes.get_yticklabels() if label.get_text()]
    boxes += [text.get_window_extent() for text in (*axes.texts, axes.xaxis.label)]
    width, height = figure.get_size_inches() * figure.dpi
    for box in boxes:
        assert 0 <= box.x0 < box.x1 <= width
        assert 0 <= box.y0 < box.y1 <= height
    assert len(axes.texts) == len(lines(ROWS))
