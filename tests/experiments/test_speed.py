"""The program that measures: its counts and checks, not its seconds."""

import numpy as np
import pytest
from transformers import ViTConfig

from experiments.replaying import (
    exactness,
    layer_flops,
    memory,
    mixes,
    random_suite,
    record,
    replay,
    subset_and_whole,
)
from experiments.speed import cold_plays
from merge_gym import Evaluator, LayerBank, Request


@pytest.fixture(scope="module")
def recording(suite, tmp_path_factory):
    return record(suite, "random", 12, 3, 0, tmp_path_factory.mktemp("run"))


def test_a_replay_scores_what_was_played_with_both_evaluators(bank, recording):
    run = replay(bank, recording.plays, 3, block=5)
    assert run.plays == len(recording.plays) > 0
    depths = sum(recipe.depth for recipe, _ in recording.plays)
    assert run.asked == depths * 40
    assert run.executed < run.asked
    assert len(run.reference.parts) == -(-run.plays // 5)
    assert 0 < recording.scoring.cpu < recording.whole.cpu


def test_subsets_and_whole_split_are_clocked_play_by_play(bank, recording):
    parts, whole = subset_and_whole(bank, recording.plays, 3)
    assert len(parts.parts) == len(whole.parts) == len(recording.plays)
    assert parts.cpu > 0
    assert whole.cpu > 0


def test_a_cold_replay_runs_every_layer(bank):
    plays = cold_plays(bank, 4, 3, np.random.default_rng(0))
    run = replay(bank, plays, 3, cold=True)
    assert run.executed == run.asked == 4 * 3 * 40
    assert run.last == 4 * 40


def test_a_replay_stops_where_rewards_differ(bank, recording, monkeypatch):
    right = Evaluator.score
    monkeypatch.setattr(
        Evaluator, "score", lambda *args, **kwargs: {**right(*args, **kwargs), "low": -1.0}
    )
    with pytest.raises(RuntimeError, match="rewards differ"):
        replay(bank, recording.plays, 3)


def test_exactness_counts_differences(bank):
    seen = exactness(bank, 5, subsets=3)
    assert (seen.recipes, seen.unequal, seen.plain) == (5, 0, True)
    assert 0 < seen.deviation < 1e-5


def test_memory_is_sampled_and_within_the_budget(bank):
    seen = memory(bank, 40, budget=2**20, subsets=3)
    assert list(seen.samples) == list(range(4, 44, 4))
    assert seen.bank == 5 * bank.suite.pretrained.parameters.flat.nbytes


def test_mixes_are_merged_and_scored_within_their_budgets(suite):
    seen = mixes(suite, 3, 30, cache_bytes=2**20, bank_bytes=2**20, subsets=3)
    assert (seen.recipes, len(seen.merging.parts)) == (3, 1)
    assert list(seen.memory.samples) == list(range(3, 33, 3))
    assert seen.memory.budget == 2**21


def test_a_random_suite_is_a_suite_of_that_size():
    config = ViTConfig(
        image_size=16, patch_size=8, hidden_size=8, num_hidden_layers=2, num_attention_heads=2
    )
    config.num_labels = 3
    suite = random_suite(config, 12)
    assert len(suite.tasks["first"].splits["search"]) == 12
    bank = LayerBank(suite)
    evaluator = Evaluator(bank, subsets=2)
    [recipe, *_] = (bank.uniform(source) for source in bank.candidates.sources)
    assert evaluator.cost(Request(recipe, subsets=(0,))) == 12
    full, last = layer_flops(bank)
    assert 0 < last < full
