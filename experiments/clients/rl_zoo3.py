"""rl_zoo3's command line: an id, the package that registers it, settings; returns from its monitor.

python -m experiments.clients.rl_zoo3
"""

import csv
import subprocess
import sys
import tempfile
from pathlib import Path

from experiments.clients.learning import show

SETTINGS = """\
ModelMergeTable-v0:
  n_timesteps: 24576
  policy: MlpPolicy
  n_envs: 4
  n_steps: 64
  ent_coef: 0.01
  learning_rate: 0.001
  normalize: "{'norm_obs': False}"
"""

with tempfile.TemporaryDirectory() as directory:
    settings = Path(directory) / "ppo.yml"
    settings.write_text(SETTINGS)
    options = {
        "--algo": ["ppo"],
        "--env": ["ModelMergeTable-v0"],
        "--gym-packages": ["merge_gym"],
        "--env-kwargs": ["dar_scale:0", "observe_cursor:True"],
        "--conf-file": [str(settings)],
        "--log-folder": [directory],
        "--seed": ["0"],
        "--device": ["cpu"],
        "--eval-freq": ["-1"],
    }
    words = [word for option, given in options.items() for word in (option, *given)]
    subprocess.run([sys.executable, "-m", "rl_zoo3.train", *words, "--verbose", "0"], check=True)
    rows = [
        (float(row["t"]), float(row["r"]))
        for file in Path(directory).rglob("*.monitor.csv")
        for row in csv.DictReader(file.read_text().splitlines()[1:])
    ]
show("rl_zoo3 PPO", [reward for _, reward in sorted(rows)])
