"""Stable-Baselines3's PPO, and sb3-contrib's MaskablePPO, which finds `action_masks` by itself.

python -m experiments.clients.sb3
"""

from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO

from experiments.clients.learning import make, show

for algorithm in (PPO, MaskablePPO):
    returns: list[float] = []
    model = algorithm("MlpPolicy", make(returns), n_steps=256, ent_coef=0.01, seed=0, device="cpu")
    model.learn(12_288)
    show(f"stable-baselines3 {algorithm.__name__}", returns)
