"""One engine, several threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch

from merge_gym import Evaluator
from tests.evaluation.recipes import random_recipes
from tests.evaluation.test_engine import SMALL, SUBSETS


def test_threads_that_share_an_engine_get_what_one_thread_gets(bank):
    """The engine remembers no more than one recipe's prefixes, so each evicts what others use."""
    recipes = random_recipes(bank, 6)
    task = next(iter(bank.suite.tasks))
    alone = Evaluator(bank, subsets=SUBSETS)
    shared = Evaluator(bank, subsets=SUBSETS, cache_bytes=SMALL)

    def scored(number: int) -> object:
        recipe = recipes[number % len(recipes)]
        if number % 5 == 0:
            shared.forget()
        return shared.score(recipe), shared.logits(recipe, task)

    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(scored, range(30)))
    for number, (scores, logits) in enumerate(found):
        recipe = recipes[number % len(recipes)]
        assert scores == alone.score(recipe)
        assert torch.allclose(logits, alone.logits(recipe, task), atol=2e-5)
