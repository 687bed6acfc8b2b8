"""The standings as one picture."""

from __future__ import annotations

from matplotlib.figure import Figure

from experiments.benchmarking.standings import Standings


def regrets_picture(standings: Standings) -> Figure:
    """Every agent's regret with its interval, a panel for each budget."""
    budgets = [budget for budget in standings.plan.budgets if standings.labels(budget)]
    labels = standings.all_labels()[::-1]
    size = (3 + 2.6 * len(budgets), 1 + 0.32 * len(labels))
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    panels = figure.subplots(1, max(len(budgets), 1), sharey=True, squeeze=False)[0]
    for axes, budget in zip(panels, budgets, strict=False):
        for place, label in enumerate(labels):
            if standings.has(label, budget):
                regret = standings.at(label, budget).regret
                axes.plot([regret.low, regret.high], [place, place], color="0.5", linewidth=3)
                axes.plot(regret.value, place, "ko", markersize=5)
        axes.axvline(standings.uniform_regret, color="k", linestyle="--", linewidth=0.8)
        axes.set_title(f"budget {budget:g}", fontsize="medium")
        axes.set_yticks(range(len(labels)), labels)
        axes.set_xlim(left=0)
        axes.grid(axis="x", color="0.9")
    figure.supxlabel(
        "regret in points: interquartile mean, 95 % interval; dashed: the best uniform merge",
        fontsize="small",
    )
    return figure
