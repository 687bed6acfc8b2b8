"""RLlib's PPO with its own module for masked actions: the mask is a part of the observation.

python -m experiments.clients.rllib
"""

import ray
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.examples.rl_modules.classes.action_masking_rlm import ActionMaskingTorchRLModule
from ray.tune.registry import register_env

from experiments.clients import learning

register_env("merging", lambda config: learning.make(learning.SHARED, observe_mask=True))
ray.init(num_cpus=1, include_dashboard=False, _node_ip_address="127.0.0.1")
config = (
    PPOConfig()
    .environment("merging")
    .env_runners(num_env_runners=0)
    .training(train_batch_size=512, minibatch_size=128, num_epochs=8, lr=1e-3, entropy_coeff=0.01)
    .rl_module(rl_module_spec=RLModuleSpec(module_class=ActionMaskingTorchRLModule))
    .debugging(seed=0)
)
algorithm = config.build_algo()
for _ in range(24):
    algorithm.train()
ray.shutdown()
learning.show("rllib PPO, masked", learning.SHARED)
