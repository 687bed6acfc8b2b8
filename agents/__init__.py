"""Agents: what searches for recipes, reinforcement learning and others, behind one interface.

Every module in this folder is imported here, so a new agent is one new file with a class decorated
by `@agent`. Its fields are its settings, and it spends the budget of the study that it is given::

    @agent("my_search")
    @dataclass
    class MySearch(Agent):
        '''What it does, its source.'''

        batch: Annotated[int, Range(1)] = 4

        def run(self, study: Study) -> None:
            generator = np.random.default_rng(study.seed)
            while True:
                study.evaluate_all([study.space.sample(generator) for _ in range(self.batch)])

A run::

    bank = LayerBank(merge_gym.load_suite("fashion-halves-0"))
    scorer = merge_gym.Evaluator(bank)
    space = spaces.make("layerwise", bank.candidates)
    budget = 100 * scorer.whole_cost()
    with Study(space, scorer, budget, seed=0, directory="runs/0") as study:
        agents.make("evolution").search(study)
        print(study.best())
"""

from importlib import import_module
from pkgutil import walk_packages

from agents.agent import Agent, AskTell, agent, available, make, settings_of

__all__ = ["Agent", "AskTell", "agent", "available", "make", "settings_of"]

for _module in walk_packages(__path__, f"{__name__}."):
    import_module(_module.name)
