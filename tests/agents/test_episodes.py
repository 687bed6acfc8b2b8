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
    (record,) = read_episodes(file)
    assert record.index == 0
    assert record.raw_reward == info["raw_reward"]
    assert record.scores == info["scores"]
    assert record.recipe == info["recipe"]
    assert (record.subset, record.depth) == (info["subset"], 2)
    assert record.evaluation_cost == info["evaluation_cost"] > 0
    assert record.seconds > 0


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
    assert (record.recipe, record.subset, record.scores) == (None, None, {})
    assert record.reward == record.raw_reward == -10


def test_each_episode_is_on_disk_when_it_ends(make_env, file):
    with RecordEpisodes(make_env(), file) as env:
        for count in (1, 2, 3):
            _play(env, [0, 0, 0], seed=0)
            assert len(read_episodes(file)) == count


def test_torn_last_line_is_left_out_and_written_over(make_env, file):
    with RecordEpisodes(make_env(), file) as env:
        _play(env, [0, 0, 0], seed=0)
        _play(env, [1, 1, 1])
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    assert len(read_episodes(file)) == 1
    with RecordEpisodes(make_env(), file, keep=2) as env:
        assert len(env.records) == 1
        _play(env, [2, 2, 2], seed=0)
    assert [record.index for record in read_episodes(file)] == [0, 1]


def test_records_after_those_kept_are_dropped(make_env, file):
    with RecordEpisodes(make_env(), file) as env:
        for action in (0, 1, 2):
            _play(env, [action] * 3, seed=0)
    with RecordEpisodes(make_env(), file, keep=2) as env:
        assert [record.index for record in env.records] == [0, 1]
    assert len(read_episodes(file)) == 2


def test_damaged_line_is_named(file):
    file.write_text('{"index": 0\n' + json.dumps({}) + "\n")
    with pytest.raises(ValueError, match=r"line 1 of .*episodes.jsonl is damaged"):
        read_episodes(file)
