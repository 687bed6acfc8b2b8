"""Effects learnt on tables: roles, the fit against one by hand, and what a search makes of them."""

import numpy as np
import pytest

import agents
from agents.critic import ChainCritic
from agents.priors import ROLES, Prior, learn_prior, load_prior, roles_of
from merge_gym import Source, Table
from merge_gym.evaluation.table_file import Rows
from merge_gym.recipe import whole
from merge_gym.spaces.candidates import Candidates
from merge_gym.spaces.walk import Walk
from merge_gym.studies.study import Study

LAYERS, EXAMPLES = 3, 4000
ORDERS = {"one": (0, 1, 2, 3), "other": (1, 0, 3, 2)}
GENERATOR = np.random.default_rng(0)
SINGLE = GENERATOR.normal(0, 4, (LAYERS, len(ROLES)))
PAIRS = GENERATOR.normal(0, 2, (LAYERS - 1, len(ROLES), len(ROLES)))
SINGLE[:, 0] += 6  # a uniform merge of the best expert is better than one of the other
SINGLE[:, 2] += 6


def worth(roles):
    pairs = zip(PAIRS, roles[:-1], roles[1:], strict=True)
    return sum(SINGLE[range(LAYERS), roles]) + sum(of[a, b] for of, a, b in pairs)


def table(digest):
    """Two experts and two operators in an order of their own, with effects of their roles."""
    order = [*ORDERS[digest], 4]
    sources = [Source.expert("a"), Source.expert("b")]
    sources += [Source.operator("average"), Source.operator("ties")]
    codes = np.array(list(np.ndindex(*[5] * LAYERS)))
    scores = np.clip([50 + worth([order[code] for code in recipe]) for recipe in codes], 1, 99)
    right = np.arange(EXAMPLES) < (np.array(scores) / 100 * EXAMPLES)[:, None]
    rows = Rows({"task": np.packbits(right, axis=1)}, {"task": np.zeros(EXAMPLES, np.int64)})
    names = [str(source) for source in sources]
    made = Candidates(digest, digest, {"layers": LAYERS}, sources, names, whole(sources[0]))
    return Table(made, {"search": rows}, subsets=10)


def test_a_role_is_a_rank_among_the_experts_and_the_operators():
    candidates = table("one").candidates
    uniform = dict(zip(candidates.names, (50.0, 60.0, 70.0, 10.0), strict=True))
    assert [ROLES[role] for role in roles_of(candidates, uniform)] == [
        "expert",
        "best expert",
        "best operator",
        "operator",
        "skip",
    ]


def test_effects_learnt_on_one_table_order_the_recipes_of_another():
    """The other table's candidates stand in another order; no name of the first is theirs."""
    prior = learn_prior([table("one")])
    target = table("other")
    uniform = {
        name: target.score(target.candidates.repeated(source))["task"]
        for name, source in zip(target.candidates.names, target.candidates.sources, strict=True)
    }
    critic = ChainCritic(LAYERS, 5, 1.0, 1.0)
    critic.mean += prior.mean(roles_of(target.candidates, uniform), LAYERS)
    codes = np.array(list(np.ndindex(*[5] * LAYERS)))
    assert np.corrcoef(critic.mean[critic.effects(codes)].sum(axis=1), target.scores())[0, 1] > 0.95


def test_a_prior_is_read_as_it_was_written_and_fits_other_depths(tmp_path):
    prior = learn_prior([table("one")])
    prior.save(tmp_path / "prior.json")
    again = load_prior(tmp_path / "prior.json")
    np.testing.assert_array_equal(again.layers, prior.layers)
    np.testing.assert_array_equal(again.pairs, prior.pairs)
    roles = np.array([1, 0, 3, 2, 4])
    for layers in (2, 3, 7):
        critic = ChainCritic(layers, 5, 1.0, 1.0)
        assert again.mean(roles, layers).shape == critic.mean.shape
    deeper = again.mean(roles, 5)[:25].reshape(5, 5)
    np.testing.assert_array_equal(deeper[-1], prior.layers[-1][roles])


def test_a_search_with_a_prior_finds_the_best_sooner(tmp_path):
    learn_prior([table("one")]).save(tmp_path / "prior.json")
    target, spent = table("other"), {}
    best = target.optimum()[0]
    for prior in (None, str(tmp_path / "prior.json")):
        found = []
        for seed in range(4):
            study = Study(Walk(target.candidates), target, 25 * EXAMPLES, seed)
            agents.make("edit_actor_critic", prior=prior).search(study)
            found += [next((t.spent for t in study.trials if t.recipe == best), study.budget)]
        spent[prior is None] = np.mean(found)
    assert spent[False] < 0.8 * spent[True]


@pytest.mark.parametrize("text", ["{}", "not json", '{"format": "merge_gym.prior/0"}', "[]"])
def test_what_is_no_prior_is_refused(tmp_path, text, make_study):
    (tmp_path / "prior.json").write_text(text)
    with pytest.raises(ValueError, match=r"prior\.json is no prior of this version"):
        agents.make("edit_actor_critic", prior=str(tmp_path / "prior.json")).check(make_study(5))
    with pytest.raises(ValueError, match="is no prior"):
        load_prior(tmp_path / "nowhere.json")
    assert Prior(np.zeros((2, 5)), np.zeros((1, 5, 5))).mean(np.array([0, 4]), 2).shape == (8,)
