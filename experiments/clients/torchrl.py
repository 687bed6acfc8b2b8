"""TorchRL's ClipPPOLoss, on batches of its collector.

python -m experiments.clients.torchrl
"""

import torch
from tensordict.nn import TensorDictModule
from torch.distributions import Categorical
from torchrl.collectors import Collector
from torchrl.envs import GymWrapper
from torchrl.modules import MLP, ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from experiments.clients.learning import make, show

BATCH = 256

torch.manual_seed(0)
returns: list[float] = []
env = GymWrapper(make(returns), categorical_action_encoding=True)
env.set_seed(0)
sizes = {"in_features": env.observation_spec["observation"].shape[-1], "num_cells": [64, 64]}
policy = TensorDictModule(
    MLP(**sizes, out_features=env.action_spec.n, activation_class=torch.nn.Tanh),
    in_keys=["observation"],
    out_keys=["logits"],
)
actor = ProbabilisticActor(
    policy,
    spec=env.action_spec,
    in_keys=["logits"],
    distribution_class=Categorical,
    return_log_prob=True,
)
critic = ValueOperator(
    MLP(**sizes, out_features=1, activation_class=torch.nn.Tanh), in_keys=["observation"]
)
advantage = GAE(gamma=0.99, lmbda=0.95, value_network=critic, average_gae=True)
loss = ClipPPOLoss(actor, critic, clip_epsilon=0.2, entropy_coeff=0.01, critic_coeff=0.5)
optimizer = torch.optim.Adam(loss.parameters(), lr=1e-3)
for data in Collector(env, actor, frames_per_batch=BATCH, total_frames=48 * BATCH):
    for _ in range(6):
        advantage(data)
        for rows in torch.randperm(BATCH).split(64):
            losses = loss(data[rows])
            total = losses["loss_objective"] + losses["loss_critic"] + losses["loss_entropy"]
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
show("torchrl ClipPPOLoss", returns)
