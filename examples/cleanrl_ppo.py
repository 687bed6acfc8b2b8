"""PPO on `ModelMerge-v0` in one file, in the manner of CleanRL, without this project's own agents.

python examples/cleanrl_ppo.py                                  # a shipped suite
python examples/cleanrl_ppo.py --suite path/to/suite.yaml --total-timesteps 8192
"""

from __future__ import annotations

import argparse

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor, nn
from torch.distributions import Categorical

import merge_gym  # noqa: F401  (registers ModelMerge-v0)

NUM_STEPS = 16  # of each environment, between two updates
UPDATE_EPOCHS, MINIBATCHES = 10, 2
LEARNING_RATE, MAX_GRAD_NORM = 1e-3, 0.5
GAMMA, GAE_LAMBDA = 0.99, 0.95
CLIP, VALUE_COEF, ENTROPY_COEF = 0.2, 0.5, 0.01
REWARD_SCALE = 0.01  # rewards are 0 to 100


def network(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs)
    )


def advantages(rewards: Tensor, values: Tensor, ended: Tensor, last: Tensor) -> Tensor:
    """Generalised advantage estimation; shapes (steps, envs), that of `last` (envs,)."""
    result, running = torch.zeros_like(rewards), torch.zeros_like(last)
    following = torch.cat([values[1:], last[None]])
    for step in reversed(range(len(rewards))):
        goes_on = 1 - ended[step]
        delta = rewards[step] + GAMMA * following[step] * goes_on - values[step]
        running = delta + GAMMA * GAE_LAMBDA * goes_on * running
        result[step] = running
    return result


def main(
    suite: str | None, seed: int, total_timesteps: int, num_envs: int, table: str | None = None
) -> list[float]:
    """Train; returns the raw reward of each episode."""
    torch.manual_seed(seed)
    envs = gym.make_vec(
        "ModelMerge-v0",
        num_envs=num_envs,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
        suite=suite,
        table=table,
    )
    inputs, actions = envs.single_observation_space.shape[0], envs.single_action_space.n
    actor, critic = network(inputs, actions), network(inputs, 1)
    parameters = [*actor.parameters(), *critic.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE, eps=1e-5)
    raw_rewards: list[float] = []
    observation, _ = envs.reset(seed=seed)

    for timestep in range(0, total_timesteps, num_envs * NUM_STEPS):
        rows = []
        for _ in range(NUM_STEPS):
            seen = torch.as_tensor(observation)
            with torch.no_grad():
                policy, value = Categorical(logits=actor(seen)), critic(seen).squeeze(-1)
            action = policy.sample()
            observation, reward, terminated, _, info = envs.step(action.numpy())
            scaled = torch.as_tensor(REWARD_SCALE * reward, dtype=torch.float32)
            ended = torch.as_tensor(terminated, dtype=torch.float32)
            rows.append((seen, action, policy.log_prob(action), value, scaled, ended))
            if terminated.any():
                raw_rewards += info["final_info"]["raw_reward"][terminated].tolist()

        seen, action, log_prob, value, reward, ended = map(torch.stack, zip(*rows, strict=True))
        with torch.no_grad():
            last = critic(torch.as_tensor(observation)).squeeze(-1)
        gain = advantages(reward, value, ended, last)
        batch = [x.flatten(0, 1) for x in (seen, action, log_prob, gain, gain + value)]
        for _ in range(UPDATE_EPOCHS):
            for index in torch.randperm(num_envs * NUM_STEPS).chunk(MINIBATCHES):
                seen, action, log_prob, gain, target = (x[index] for x in batch)
                policy = Categorical(logits=actor(seen))
                ratio = (policy.log_prob(action) - log_prob).exp()
                gain = (gain - gain.mean()) / (gain.std() + 1e-8)
                policy_loss = -torch.min(ratio * gain, ratio.clamp(1 - CLIP, 1 + CLIP) * gain)
                value_loss = 0.5 * (critic(seen).squeeze(-1) - target).square()
                loss = policy_loss + VALUE_COEF * value_loss - ENTROPY_COEF * policy.entropy()
                optimizer.zero_grad()
                loss.mean().backward()
                nn.utils.clip_grad_norm_(parameters, MAX_GRAD_NORM)
                optimizer.step()
        recent = np.mean(raw_rewards[-50:]) if raw_rewards else float("nan")
        print(f"step {timestep}: {len(raw_rewards)} episodes, charts/episodic_return {recent:.1f}")
    envs.close()
    return raw_rewards


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="PPO on ModelMerge-v0 in one file")
    parser.add_argument("--suite", default="fashion-halves-0")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--total-timesteps", type=int, default=4096)
    parser.add_argument("--num-envs", type=int, default=4)
    torch.set_num_threads(1)
    main(**vars(parser.parse_args()))
