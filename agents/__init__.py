"""Agents: what searches for recipes, reinforcement learning and others, behind one interface.

Every module in this folder is imported here, so a new agent is one new file with a class decorated
by `@agent`. Its fields are its hyper-parameters::

    @agent("my_search")
    @dataclass
    class MySearch(Agent):
        '''What it does, its source.'''

        temperature: Annotated[float, Range(0)] = 1.0

        def play(self, env: RecordEpisodes, episodes: int) -> None: ...

A run::

    found = agents.make("ppo", env, seed=0, directory="runs/0", learning_rate=1e-3)
    records = found.search(episodes=700)
    evaluator = env.unwrapped.evaluator
    best = select(records, evaluator, also=[found.greedy_recipe()]).best
"""

from importlib import import_module
from pkgutil import walk_packages

from agents.agent import Agent, agent, available, make

__all__ = ["Agent", "agent", "available", "make"]

for _module in walk_packages(__path__, f"{__name__}."):
    import_module(_module.name)
