"""`merge-gym NAME …`: the programs, from wherever the package is installed."""

from __future__ import annotations

import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

from merge_gym.messages import unknown_name

PROGRAMS = {
    "train": ("train", "train a reinforcement-learning agent on a suite, keep the best merge"),
    "search": ("search", "search a space of merges with a budget of evaluations"),
    "merge": ("merge", "merge by one operator or a recipe, without a search"),
    "calibrate": ("calibrate", "calibrate the heads of what a run found, as a last step"),
    "modular": ("modular", "search for modules that tasks share instead of one model"),
    "inspect": ("inspect_suite", "what a suite holds, before anything heavy runs"),
    "operators": ("operators", "every operator as a whole-model merge of one suite"),
    "tabulate": ("tabulate", "score every recipe of a small suite once and for all"),
    "benchmark": ("benchmark", "compare agents on tables at equal cost, as a page"),
    "transfer": ("transfer", "what learning on other suites' tables buys on an unseen one"),
    "summarise": ("summarise", "many runs as one table"),
    "front": ("front", "what a run offers where several things are wanted at once"),
    "paper": ("paper", "the paper's tables beside runs here"),
    "build-suite": ("build_suite", "build a suite from data: experts, heads, splits"),
    "convert": ("convert", "pickled checkpoints into safetensors"),
    "speed": ("speed", "what scoring costs, reference against engine"),
}
NEEDED = {"hydra": "train", "stable_baselines3": "train", "rich": "train"}
"""Modules that programs need, and the extras that bring them."""

COMPLETION = """\
_merge_gym() {
    local words="%s" word="${COMP_WORDS[COMP_CWORD]}"
    if [ "$COMP_CWORD" -gt 1 ]; then
        words=$(COMP_LINE="${COMP_LINE#* }" COMP_POINT=$COMP_POINT \\
            merge-gym "${COMP_WORDS[1]}" -sc query=bash 2>/dev/null)
    fi
    COMPREPLY=($(compgen -o nospace -o default -W "$words" -- "$word"))
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -o default -F _merge_gym merge-gym
"""
"""For bash: the programs, and of each one its settings, as Hydra tells them."""


def main() -> None:
    """Run the program that the first argument names, with the other arguments."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(usage())
        return
    name = sys.argv[1]
    if name == "completion":
        print(COMPLETION % " ".join(PROGRAMS))
        return
    if name not in PROGRAMS:
        raise SystemExit(f"error: {unknown_name('program', name, PROGRAMS)}")
    missing = sorted({extra for module, extra in NEEDED.items() if find_spec(module) is None})
    if missing:
        extras = ",".join(missing)
        raise SystemExit(f"error: this needs more: pip install 'merge-gym[{extras}]'")
    sys.path.insert(0, str(place()))
    sys.argv = [f"merge-gym {name}", *sys.argv[2:]]
    runpy.run_module(f"experiments.{PROGRAMS[name][0]}", run_name="__main__", alter_sys=True)


def usage() -> str:
    """What `merge-gym --help` prints."""
    width = max(map(len, PROGRAMS))
    lines = [f"  {name.ljust(width)}  {what}" for name, (_, what) in PROGRAMS.items()]
    return "\n".join(
        [
            "usage: merge-gym PROGRAM [setting=value …]",
            "",
            *lines,
            "",
            "merge-gym PROGRAM --help shows a program's settings, -m sweeps over several values.",
            'eval "$(merge-gym completion)" lets bash complete programs and settings by tab.',
        ]
    )


def place() -> Path:
    """The folder that holds agents, conf and experiments: inside the installed package, or the
    root of a checkout."""
    inside = Path(__file__).parent / "programs"
    return inside if inside.is_dir() else Path(__file__).parents[1]
