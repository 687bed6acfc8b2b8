"""Tables against the evaluator that they were made with."""

import gymnasium as gym
import numpy as np
import pytest

from experiments.replaying import layer_flops, table_speed
from experiments.tabulate import savings, tabulate
from merge_gym import Evaluator, LayerBank, Recipe, ReferenceEvaluator
from merge_gym.envs.model_merge import ModelMergeEnv
from merge_gym.evaluation.engine import Counts
from merge_gym.evaluation.table import count_recipes, decisions, load_table, read_rows, write_rows
from tests.evaluation.recipes import random_recipes

SUBSETS = 6
OPERATORS = ["average", {"name": "ties", "density": 0.5}]


@pytest.fixture(scope="module")
def bank(suite):
    return LayerBank(suite, OPERATORS)


@pytest.fixture(scope="module")
def file(bank, tmp_path_factory):
    file = tmp_path_factory.mktemp("table") / "tiny.safetensors"
    tabulate(bank, file)
    return file


@pytest.fixture(scope="module")
def table(file):
    return load_table(file, SUBSETS)


@pytest.fixture(scope="module")
def recipes(bank):
    return [recipe for recipe in random_recipes(bank, 60) if not stacked(recipe)]


def stacked(recipe):
    places = [layer.index for layer in recipe.segments[0][1]]
    return places != sorted(set(places))


def test_scores_and_values_equal_the_evaluators_to_the_bit(bank, table, recipes):
    reference = ReferenceEvaluator(bank, subsets=SUBSETS)
    for number, recipe in enumerate(recipes):
        subset = [None, 0, 5][number % 3]
        assert table.score(recipe, subset=subset) == reference.score(recipe, subset=subset)
        values = reference.values(recipe, subset=subset)
        for task, expected in values.items():
            np.testing.assert_array_equal(table.values(recipe, subset=subset)[task], expected)
            assert table.values(recipe, subset=subset)[task].dtype == expected.dtype
        assert table.cost(subset=subset) == reference.cost(subset=subset)


def test_every_recipe_has_one_place(table):
    assert len(table) == 5**3
    recipes = [table.recipe_at(index) for index in range(len(table))]
    assert [table.index(recipe) for recipe in recipes] == list(range(len(table)))
    assert len(set(recipes)) == len(table)


def test_merging_maps_lead_to_the_recipes_places(table):
    maps = np.zeros((len(table), 4, 3), np.float32)
    for index in range(len(table)):
        for layer, source in decisions(index, 4, 3):
            maps[index, source, layer] = 1
    np.testing.assert_array_equal(table.indices(maps), np.arange(len(table)))


def test_optimum_and_rank_agree_with_a_count_by_hand(bank, table):
    reference = Evaluator(bank, subsets=SUBSETS)
    means = [
        np.mean(list(reference.score(table.recipe_at(index), subset=1).values()))
        for index in range(len(table))
    ]
    best, score = table.optimum(subset=1)
    assert score == max(means)
    assert table.index(best) == int(np.argmax(means))
    assert table.rank(best, subset=1) == 1
    for index in (0, 17, 124):
        better = sum(mean > means[index] for mean in means)
        assert table.rank(table.recipe_at(index), subset=1) == 1 + better


def test_shared_prefixes_run_once(bank, tmp_path):
    counts = tabulate(bank, tmp_path / "table.safetensors")
    examples = ReferenceEvaluator(bank).cost()
    assert counts.asked == 3 * 4 * 5**2 * examples
    assert (counts.full, counts.last) == ((5**2 - 1) * examples, 4 * 5**2 * examples)


def test_savings_weigh_a_last_layer_by_its_operations(bank):
    whole, last = layer_flops(bank)
    said = savings(Counts(asked=100, full=1, last=10), bank)
    operations = 100 * whole / (whole + 10 * last)
    assert said.startswith(f"{operations:.0f} times fewer operations than one recipe at a time")
    assert "1.0% were run, and 10.0% for the token" in said


def test_an_interrupted_table_goes_on_where_it_stopped(bank, file, tmp_path, monkeypatch):
    halves = tmp_path / "table.safetensors"

    def stop(done):
        if done >= 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tabulate(bank, halves, every=25, report=stop)
    _, bits, _ = read_rows(halves)
    assert {len(rows) for rows in bits.values()} == {50}
    with pytest.raises(ValueError, match="holds 50 of 125 recipes"):
        load_table(halves)
    counts = tabulate(bank, halves, every=25)
    assert counts.asked < 125 * 3 * ReferenceEvaluator(bank).cost() * 0.7
    assert halves.read_bytes() == file.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == [halves.name]


def test_a_table_of_other_candidates_is_not_continued(suite, file):
    with pytest.raises(ValueError, match="leave out operators="):
        tabulate(LayerBank(suite, ["average"]), file)


def test_speed_counts_the_episodes_that_random_actions_finish(file, monkeypatch):
    monkeypatch.setattr("experiments.replaying.time.process_time", iter([10.0, 14.0]).__next__)
    shortest, environments, steps = 2, 8, 40
    finished = 4 * table_speed(file, environments, steps)
    assert 0 < finished == int(finished) <= environments * steps / shortest


def test_the_env_needs_the_table_alone_and_gives_the_suites_rewards(suite, file):
    with_models = ModelMergeEnv(suite, OPERATORS, subsets=SUBSETS)
    with_table = ModelMergeEnv(table=file, subsets=SUBSETS)
    assert with_table.observation_space == with_models.observation_space
    generator = np.random.default_rng(0)
    for seed in range(12):
        pairs = [env.reset(seed=seed)[0] for env in (with_models, with_table)]
        np.testing.assert_array_equal(*pairs)
        over = False
        while not over:
            action = generator.integers(0, 5)
            *_, info = expected = with_models.step(action)
            *_, given = outcome = with_table.step(action)
            np.testing.assert_array_equal(outcome[0], expected[0])
            assert outcome[1:4] == expected[1:4]
            over = expected[2]
        assert {**given, "action_mask": 0} == {**info, "action_mask": 0}


def test_going_back_is_masked_and_penalised(file):
    env = ModelMergeEnv(table=file)
    _, info = env.reset(seed=0)
    *_, info = env.step(0)
    assert info["action_mask"].tolist() == [1, 1, 1, 1, 1, 0]
    _, reward, terminated, _, _ = env.step(5)
    assert (reward, terminated) == (-10.0, True)


def test_gym_makes_single_and_vector_envs_from_a_table(file, suite_file):
    env = gym.make("ModelMerge-v0", suite=str(suite_file), table=str(file))
    assert env.unwrapped.suite.name == "tiny"
    envs = gym.make_vec("ModelMerge-v0", num_envs=3, table=str(file))
    envs.reset(seed=0)
    for _ in range(3):
        _, rewards, *_ = envs.step(np.array([0, 1, 4]))
    assert (rewards > 0).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda recipe: recipe.segments[0][1] + recipe.segments[0][1][:1], "without stacking"),
        (lambda recipe: recipe.segments[0][1][::-1], "without stacking"),
    ],
)
def test_a_recipe_outside_the_table_is_refused(bank, table, change, words):
    recipe = Recipe.uniform("average", bank)
    outside = Recipe(recipe.suite, recipe.shared, (("layers", change(recipe)),))
    with pytest.raises(ValueError, match=words):
        table.score(outside)


def test_a_source_outside_the_table_is_refused(bank, table):
    with pytest.raises(ValueError, match="holds no layers of dare"):
        table.score(Recipe.uniform("dare", bank))


def test_other_splits_and_subsets_are_refused(bank, table):
    recipe = Recipe.uniform("average", bank)
    with pytest.raises(ValueError, match="search split only"):
        table.score(recipe, "test")
    with pytest.raises(ValueError, match="from 0 to 5"):
        table.score(recipe, subset=6)


def test_the_table_of_another_suite_is_refused(suite, file, tmp_path):
    other, bits, labels = read_rows(file)
    other.digest = "0" * 16
    write_rows(tmp_path / "other.safetensors", other, bits, labels)
    with pytest.raises(ValueError, match=r"0000000000000000.*make this suite's own table"):
        ModelMergeEnv(suite, table=tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="were asked for"):
        ModelMergeEnv(suite, ["average"], table=file)


def test_what_is_no_table_is_refused(tmp_path, file):
    with pytest.raises(FileNotFoundError, match=r"experiments\.tabulate"):
        load_table(tmp_path / "none.safetensors")
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ValueError, match="not a complete safetensors file"):
        load_table(torn)


def test_an_env_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"give suite=.* or table="):
        ModelMergeEnv()


def test_a_table_as_large_as_its_recipes(table, bank):
    assert count_recipes(bank) == len(table) == len(table.scores())
