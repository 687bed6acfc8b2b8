"""episodes.jsonl: what is written, and what is read back."""

from __future__ import annotations

import json

import pytest

from agents.episodes import RecordEpisodes, read_episodes


@pytest.fixture
def file(tmp_path):
    return tmp_path / "episodes.jsonl"


def _play(env, actions, **options):
    env.reset(**options)
    for action in actions:
        *_, info = env.step(action)
    return info


def test_a_record_says_what_the_info_said(make_env, file):
    with RecordEpisodes(make_env(), file) as env:
        info = _play(env, [0, 3, 5], seed=0)
        recipe = env.get_wrapper_attr("recipe")()
    (record,) = read_episodes(file)
    assert record.index == 0
    assert record.raw_reward == info["raw_reward"]
    assert record.scores == info["scores"]
    assert record.recipe == recipe
    assert (record.subset, record.depth) == (info["subset"], 2)
    assert record.evaluation_cost == info["evaluation_cost"] > 0
    assert record.seconds > 0
    assert env.records == [record]


def test_reward_is_what_the_agent_saw(make_env, file):
    with RecordEpisodes(make_env(dar_horizon=1), file) as env:
        _play(env, [0, 0, 0], seed=0)
        _play(env, [1, 1, 1])
    first, second = read_episodes(file)
    assert second.reward == pytest.approx(0.8 * first.reward + 0.2 * second.raw_reward)


def test_an_invalid_episode_has_no_recipe(make_env, file):
    with RecordEpisodes(make_env(), file) as env:
        _play(env, [env.action_space.n - 1], seed=0)
    (record,) = read_episodes(file)
    assert (record.recipe, record.subset, record.scores) == (None, -1, {})
    assert record.reward == record.raw_reward == -10
    assert record.evaluation_cost == 0


def test_an_episode_on_the_whole_split_has_no_subset(make_env, file):
    with RecordEpisodes(make_env(), file) as env:
        _play(env, [0, 0, 0], seed=0, options={"subset": "full"})
    (record,) = read_episodes(file)
    assert record.subset == -1
    assert record.scores


def test_each_episode_is_on_disk_when_it_ends_and_its_listeners_have_heard_it(make_env, file):
    heard = []
    with RecordEpisodes(make_env(), file) as env:
        env.listeners.append(heard.append)
        for count in (1, 2, 3):
            _play(env, [0, 0, 0], seed=0)
            assert len(read_episodes(file)) == len(heard) == count
    assert heard == env.records


def test_an_episode_that_was_broken_off_leaves_nothing(make_env, file):
    with RecordEpisodes(make_env(), file) as env:
        _play(env, [0, 0], seed=0)
        _play(env, [1, 1, 1])
    (record,) = read_episodes(file)
    assert record.reward == record.raw_reward


def test_a_file_that_was_there_is_begun_anew(make_env, file):
    for actions in ([0, 0, 0], [1, 1, 1]):
        with RecordEpisodes(make_env(), file) as env:
            _play(env, actions, seed=0)
    assert read_episodes(file) == env.records


def test_without_a_file_records_are_kept_alone(make_env, tmp_path):
    with RecordEpisodes(make_env()) as env:
        _play(env, [0, 0, 0], seed=0)
    assert len(env.records) == 1
    assert not list(tmp_path.iterdir())


def test_torn_last_line_and_damaged_ones_are_left_out(make_env, file, caplog):
    with RecordEpisodes(make_env(), file) as env:
        for _ in range(3):
            _play(env, [0, 0, 0], seed=0)
    first, second, third = file.read_text().splitlines(keepends=True)
    file.write_text(first + second[:20] + "\n" + third[:-20])
    assert read_episodes(file) == env.records[:1]
    assert "line 2 of" in caplog.text


def test_every_line_is_one_json_object(make_env, file):
    with RecordEpisodes(make_env(), file) as env:
        _play(env, [0, 0, 0], seed=0)
    assert set(json.loads(file.read_text())) == set(vars(env.records[0]))
