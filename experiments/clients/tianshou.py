"""Tianshou's PPO, by its procedural interface.

python -m experiments.clients.tianshou
"""

import numpy as np
import torch
from tianshou.algorithm import PPO
from tianshou.algorithm.modelfree.reinforce import DiscreteActorPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.trainer import OnPolicyTrainerParams
from tianshou.utils.net.common import Net
from tianshou.utils.net.discrete import DiscreteActor, DiscreteCritic

from experiments.clients.learning import make, show

np.random.seed(0)
torch.manual_seed(0)
returns: list[float] = []
envs = DummyVectorEnv([lambda: make(returns)] * 4)
space = make([])
actor, critic = (
    Net(state_shape=space.observation_space.shape, hidden_sizes=[64, 64]) for _ in range(2)
)
ppo = PPO(
    policy=DiscreteActorPolicy(
        actor=DiscreteActor(
            preprocess_net=actor, action_shape=space.action_space.n, softmax_output=False
        ),
        action_space=space.action_space,
    ),
    critic=DiscreteCritic(preprocess_net=critic),
    optim=AdamOptimizerFactory(lr=1e-3),
    ent_coef=0.01,
)
training = OnPolicyTrainerParams(
    training_collector=Collector(ppo, envs, VectorReplayBuffer(1024, 4)),
    max_epochs=1,
    epoch_num_steps=12_288,
    collection_step_num_env_steps=256,
    update_step_num_repetitions=8,
    batch_size=64,
    test_step_num_episodes=0,
)
ppo.run_training(training)
show("tianshou PPO", returns)
