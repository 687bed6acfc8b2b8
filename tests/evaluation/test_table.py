"""Tables against the evaluator that they were made with."""

import json
import pickle
import subprocess
import sys
import warnings
from dataclasses import replace
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils import env_checker
from safetensors.numpy import load_file, save_file

from experiments.replaying import layer_flops, table_speed
from experiments.tabulate import savings, tabulate
from merge_gym import Evaluator, LayerBank, ReferenceEvaluator, Request, load_suite, spaces
from merge_gym.envs.making import make_env
from merge_gym.evaluation.engine import Counts
from merge_gym.evaluation.table import Table, count_recipes, decisions, load_table
from merge_gym.evaluation.table_file import list_tables, read_rows, write_rows
from merge_gym.recipe import LAYER_COMPONENTS, Layer, Source, whole
from tests.envs.infos import assert_same_infos, check_info
from tests.evaluation.recipes import random_recipes

SUBSETS = 6
OPERATORS = ["average", {"name": "ties", "density": 0.5}]


@pytest.fixture(scope="module")
def bank(suite):
    return LayerBank(suite, OPERATORS)


@pytest.fixture(scope="module")
def file(bank, tmp_path_factory):
    file = tmp_path_factory.mktemp("table") / "tiny.safetensors"
    tabulate(bank, file, test=True)
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


def test_outcomes_equal_the_evaluators_to_the_bit(bank, table, recipes):
    reference = ReferenceEvaluator(bank, subsets=SUBSETS)
    places = [(None, None), ((0,), None), ((5, 2), None), (3, ("high",)), (SUBSETS, None)]
    for number, recipe in enumerate(recipes):
        subsets, tasks = places[number % len(places)]
        split = "search" if subsets or number % 2 else "test"
        request = Request(recipe, split, subsets, tasks)
        (given,), (expected,) = table.evaluate([request]), reference.evaluate([request])
        assert (given.scores, given.cost) == (expected.scores, expected.cost)
        assert given.values.keys() == expected.values.keys()
        for task, values in expected.values.items():
            np.testing.assert_array_equal(given.values[task], values)
            assert given.values[task].dtype == values.dtype
    for split in ("search", "test"):
        assert table.whole_cost(split) == reference.whole_cost(split)


def test_looking_up_many_at_once_is_looking_up_each(table):
    places = [0, 3, 77, 124]
    maps = np.zeros((len(places), 4, 3), np.float32)
    for row, place in enumerate(places):
        for layer, source in decisions(place, 4, 3):
            maps[row, source, layer] = 1
    for subsets in (None, (2,)):
        scores, cost = table.look_up(maps, subsets)
        for row, place in enumerate(places):
            request = Request(table.recipe_at(place), subsets=subsets)
            (outcome,) = table.evaluate([request])
            assert {task: of[row] for task, of in scores.items()} == outcome.scores
            assert cost == outcome.cost


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
    examples = ReferenceEvaluator(bank).whole_cost()
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
        tabulate(bank, halves, every=25, report=stop, test=True)
    _, splits = read_rows(halves)
    assert {name: len(rows) for name, rows in splits.items()} == {"search": 50, "test": 50}
    with pytest.raises(ValueError, match="holds 50 of 125 recipes"):
        load_table(halves)
    with pytest.raises(ValueError, match="holds the splits search, test, but search were asked"):
        tabulate(bank, halves)
    counts = tabulate(bank, halves, every=25, test=True)
    examples = sum(map(ReferenceEvaluator(bank).whole_cost, ("search", "test")))
    assert counts.asked < 125 * 3 * examples * 0.7
    assert halves.read_bytes() == file.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == [halves.name]


def test_a_table_of_other_candidates_is_not_continued(suite, file):
    with pytest.raises(ValueError, match="leave out operators="):
        tabulate(LayerBank(suite, ["average"]), file)


def test_speed_counts_the_episodes_that_random_actions_finish(file, monkeypatch):
    clock = SimpleNamespace(process_time=iter([10.0, 14.0]).__next__, perf_counter=float)
    monkeypatch.setattr("experiments.replaying.time", clock)
    shortest, environments, steps = 2, 8, 40
    finished = 4 * table_speed(file, environments, steps)
    assert 0 < finished == int(finished) <= environments * steps / shortest


def test_the_env_needs_the_table_alone_and_gives_the_suites_rewards(suite, file):
    with_models = make_env(suite=suite, operators=OPERATORS, subsets=SUBSETS)
    with_table = make_env(table=file, subsets=SUBSETS)
    assert with_table.observation_space == with_models.observation_space
    generator = np.random.default_rng(0)
    rewards = set()
    for seed in [0, *[None] * 12]:
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
            check_info(given, with_models.scorer.tasks, 4, 12)
            np.testing.assert_array_equal(given["taken"], info["taken"])
            same = given.keys() - {"action_mask", "taken"}
            assert {key: given[key] for key in same} == {key: info[key] for key in same}
        rewards.add(outcome[1])
    assert len(rewards) > 3


def test_going_back_is_masked_and_penalised(file):
    env = make_env(table=file)
    _, info = env.reset(seed=0)
    *_, info = env.step(0)
    assert info["action_mask"].tolist() == [1, 1, 1, 1, 1, 0]
    _, reward, terminated, _, _ = env.step(5)
    assert (reward, terminated) == (-10.0, True)


def test_gym_makes_single_and_vector_envs_from_a_table(file, suite_file):
    env = gym.make("ModelMerge-v0", suite=str(suite_file), table=str(file))
    assert env.unwrapped.candidates.suite == "tiny"
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert again.unwrapped.candidates.sources == env.unwrapped.candidates.sources
    envs = gym.make_vec("ModelMerge-v0", num_envs=3, table=str(file))
    envs.reset(seed=0)
    for _ in range(3):
        _, rewards, *_ = envs.step(np.array([0, 1, 4]))
    assert (rewards > 0).all()


def test_a_vector_of_a_table_says_what_a_vector_of_the_suite_says(suite, file):
    on_suite, on_table = (
        gym.make_vec("ModelMerge-v0", 3, "vector_entry_point", subsets=SUBSETS, **problem)
        for problem in ({"suite": suite, "operators": OPERATORS}, {"table": file})
    )
    generator = np.random.default_rng(0)
    for options in (None, {"subset": "full"}):
        for envs in (on_suite, on_table):
            envs.reset(seed=3, options=options)
        for _ in range(60):
            actions = generator.integers(0, 5, 3)
            *expected, infos = on_suite.step(actions)
            *given, of_table = on_table.step(actions)
            for one, other in zip(given, expected, strict=True):
                np.testing.assert_array_equal(one, other)
            assert of_table.keys() == infos.keys()
            same = {key: infos[key] for key in infos if key.removeprefix("_") != "action_mask"}
            assert_same_infos({key: of_table[key] for key in same}, same)


def test_a_pickled_env_goes_on_as_the_original_does(file):
    env = gym.make("ModelMerge-v0", table=str(file), subsets=SUBSETS)
    env.reset(seed=0)
    for action in (0, 2, 1):
        env.step(action)
    env.reset()
    env.step(3)
    copy = pickle.loads(pickle.dumps(env))
    said = []
    for each in (env, copy):
        said.append([each.step(action)[1] for action in (4, 0)])
        for _ in range(2 * SUBSETS):
            each.reset()
            said[-1] += [each.step(action)[1] for action in (3, 1, 2)]
    assert said[0] == said[1]
    assert len(set(said[0])) > 3


def test_gymnasiums_checker_has_nothing_to_say(file):
    env = gym.make("ModelMerge-v0", table=str(file), render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env_checker.check_env(env.unwrapped)


def test_an_env_of_a_table_imports_no_torch(file):
    code = f"""
import sys, time
import gymnasium as gym
shipped = gym.make("merge_gym:ModelMerge-v0", table="fashion-halves-0")
shipped.reset(seed=0)
assert time.process_time() < 2
env = gym.make("merge_gym:ModelMerge-v0", table={str(file)!r})
envs = gym.make_vec("ModelMerge-v0", num_envs=2, table={str(file)!r})
env.reset(seed=0)
envs.reset(seed=0)
for _ in range(3):
    *_, info = env.step(1)
    *_, infos = envs.step([1, 2])
assert info["scored"] and infos["scored"].all()
env.get_wrapper_attr("recipe")().to_json()
print(sorted({{"torch", "transformers", "datasets", "matplotlib"}} & set(sys.modules)))
"""
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip() == "[]"


def test_a_space_of_a_table_is_a_walk_that_the_table_holds(table):
    walk = spaces.make("walk", table.candidates)
    starts = [walk.recipe(decisions) for decisions in walk.starts().values()]
    assert [table.index(recipe) for recipe in starts] == [0, 31, 62, 93]
    with pytest.raises(ValueError, match="set components=false"):
        spaces.make("layerwise", table.candidates)


PARTS = tuple((component, Source.operator("average")) for component in LAYER_COMPONENTS)


def in_layers(change):
    """A change of the uniform average's layers."""
    return lambda recipe: replace(recipe, segments=(("layers", change(recipe.segments[0][1])),))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (in_layers(lambda layers: layers + layers[:1]), "without stacking"),
        (in_layers(lambda layers: layers[::-1]), "without stacking"),
        (in_layers(lambda layers: (replace(layers[0], scale=0.5), *layers[1:])), "without scales"),
        (in_layers(lambda layers: (Layer(0, PARTS), *layers[1:])), "whole layers"),
        (
            lambda recipe: replace(recipe, shared=whole(Source.expert("low"))),
            "shared parameters are of low",
        ),
        (lambda recipe: replace(recipe, suite="0" * 16), "load the recipe's own suite"),
    ],
    ids=["stacked", "reversed", "scaled", "of components", "of other stem", "of another suite"],
)
def test_a_recipe_outside_the_table_is_refused(bank, table, change, words):
    recipe = bank.uniform("average")
    table.score(recipe)
    with pytest.raises(ValueError, match=words):
        table.score(change(recipe))


def test_a_source_outside_the_table_is_refused(bank, table):
    with pytest.raises(ValueError, match="holds no layers of dare"):
        table.score(bank.candidates.repeated(bank.source("dare")))


def test_other_splits_and_subsets_are_refused(bank, table):
    recipe = bank.uniform("average")
    without_test = Table(table.candidates, {"search": table.search}, SUBSETS)
    assert without_test.digest == table.digest
    with pytest.raises(ValueError, match=r"does not hold this split.*test=true makes one"):
        without_test.score(recipe, "test")
    with pytest.raises(ValueError, match="from 0 to 5"):
        table.score(recipe, subset=6)


def test_the_table_of_another_suite_or_bank_is_refused(suite, file, tmp_path):
    other, splits = read_rows(file)
    other.digest = "0" * 16
    write_rows(tmp_path / "other.safetensors", other, splits)
    with pytest.raises(ValueError, match=r"0000000000000000.*make this suite's own table"):
        make_env(suite=suite, table=tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="were asked for"):
        make_env(suite=suite, operators=["average"], table=file)


def test_a_compressed_table_holds_the_same(file, tmp_path):
    candidates, splits = read_rows(file)
    write_rows(tmp_path / "tiny.safetensors.xz", candidates, splits)
    again = load_table(tmp_path / "tiny.safetensors.xz")
    assert again.digest == load_table(file).digest
    np.testing.assert_array_equal(again.splits["test"].bits["low"], splits["test"].bits["low"])


def without(name):
    def change(header, tensors):
        del tensors[name]

    return change


def of_another_shape(name, change):
    def changed(header, tensors):
        tensors[name] = change(tensors[name])

    return changed


def in_header(name, value):
    return lambda header, tensors: header.update({name: value})


MALFORMED = {
    "no bits": (without("bits/low"), "lacks 'bits/low'"),
    "no test labels": (without("test/labels/low"), "lacks 'test/labels/low'"),
    "a column less": (
        of_another_shape("bits/low", lambda bits: bits[:, 1:].copy()),
        "60 labels",
    ),
    "a recipe less": (of_another_shape("bits/low", lambda bits: bits[1:]), "recipes"),
    "flat bits": (of_another_shape("bits/low", lambda bits: bits[:, 0].copy()), "not uint8 of"),
    "wide bits": (of_another_shape("bits/low", lambda bits: bits.astype(np.int16)), "are uint8"),
    "labels that are no numbers": (
        of_another_shape("labels/low", lambda labels: labels.astype(np.float32)),
        "labels of the search split of 'low' are int64",
    ),
    "one bit": (of_another_shape("bits/low", lambda bits: bits ^ 128), "checksum"),
    "another format": (in_header("format", "merge_gym.table/9"), "merge_gym.table/9"),
    "no tasks": (in_header("tasks", []), "not a whole table"),
    "tasks that are no list": (in_header("tasks", 3), "not a whole table"),
    "endless layers": (in_header("segments", {"layers": 10**9}), "segments are"),
    "no sources": (in_header("candidates", {"a": {"what": 1}}), "a source is"),
    "another digest": (in_header("digest", "0" * 16), "checksum"),
}


@pytest.mark.parametrize(("change", "words"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_table_is_refused_in_one_line(file, tmp_path, change, words):
    data = file.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["header"])
    tensors = load_file(file)
    change(header, tensors)
    save_file(tensors, tmp_path / "bad.safetensors", {"header": json.dumps(header)})
    with pytest.raises(ValueError, match=words) as refusal:
        load_table(tmp_path / "bad.safetensors")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("ending", ["", ".xz"])
def test_damaged_bytes_are_refused_or_change_nothing(file, tmp_path, ending):
    damaged = tmp_path / f"damaged.safetensors{ending}"
    write_rows(damaged, *read_rows(file))
    data, whole = damaged.read_bytes(), load_table(file)
    generator = np.random.default_rng(0)
    cut = [data[: int(at)] for at in generator.integers(0, len(data), 40)]
    flipped = [flip(data, int(at)) for at in generator.integers(0, len(data), 100)]
    in_head = [flip(data, int(at)) for at in generator.integers(0, 1500, 100)]
    said = []
    for each in (*cut, *flipped, *in_head, b"", b"{}", data * 2):
        damaged.write_bytes(each)
        try:
            assert load_table(damaged).digest == whole.digest
        except ValueError as refusal:
            said.append(str(refusal))
    assert len(said) > 200
    assert all("is not a whole table" in each or "finish it with" in each for each in said)


def flip(data, at):
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]


@pytest.mark.parametrize("name", list_tables())
def test_a_shipped_table_is_its_suites(name):
    table = load_table(name)
    suite = load_suite(name)
    bank = LayerBank(suite, table.operators)
    table.check_candidates(bank.candidates)
    reference = ReferenceEvaluator(bank)
    for number, recipe in enumerate((table.optimum()[0], table.recipe_at(2600))):
        assert table.score(recipe, subset=number) == reference.score(recipe, subset=number)


def test_a_missing_table_is_named_with_those_that_ship(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"experiments\.tabulate, or name a shipped one"):
        load_table(tmp_path / "none.safetensors")


def test_a_table_as_large_as_its_recipes(table, bank):
    assert count_recipes(bank.candidates) == len(table) == len(table.scores())
