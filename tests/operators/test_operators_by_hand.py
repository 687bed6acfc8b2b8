"""Every operator on cases small enough to be worked out by hand or by a slow second computation."""

import math

import numpy as np
import pytest
import torch

from merge_gym import operators
from merge_gym.operators._task_vectors import keep_largest_
from tests.operators.worked import close, merged, tensor

ROOT_HALF = math.sqrt(0.5)


def test_average_is_the_mean_and_weights_count_by_proportion():
    close(merged("average", [1, 2], [3, -2]), [2, 0])
    close(merged("average", [1, 2], [3, -2], weight=[1, 3]), [2.5, -1])
    close(merged("average", [1, 2], [3, -2], weight=[10, 30]), [2.5, -1])


def test_average_refuses_weights_that_are_all_zero():
    with pytest.raises(ValueError, match="all weights are zero"):
        merged("average", [1.0], [2.0], weight=0)


def test_task_arithmetic_adds_weighted_task_vectors():
    close(merged("task_arithmetic", [1, 2], [-1, 0], weight=0.5), [0, 1])
    close(merged("task_arithmetic", [1, 2], [-1, 0], weight=[1, 0.5]), [0.5, 2])
    close(merged("task_arithmetic", [1, 2], [-1, 1]), [0, 0.9])


def test_balanced_task_arithmetic_scales_to_the_mean_norm():
    # Norms 5 and 10, so 7.5 for both: (4.5, 6) and (0, 7.5).
    close(merged("balanced_task_arithmetic", [3, 4], [0, 10]), [2.25, 6.75])
    close(merged("balanced_task_arithmetic", [3, 4], [0, 10], weight=[1, 0]), [4.5, 6])


def test_balanced_task_arithmetic_leaves_a_zero_task_vector_out():
    close(merged("balanced_task_arithmetic", [3, 4], [0, 0], weight=1.0), [1.5, 2])


def test_ties_trims_elects_and_takes_the_disjoint_mean():
    # The two largest of each: (4, -3, 0, 0, 0) and (0, -5, 3, 0, 0).
    vectors = [4, -3, 2, 1, 0], [-1, -5, 3, 0, 2]
    close(merged("ties", *vectors, density=0.4), [4, -4, 3, 0, 0])
    close(merged("ties", *vectors, density=0.4, consensus="sum"), [4, -8, 3, 0, 0])
    close(merged("ties", *vectors, density=0.4, weight=0.5), [2, -2, 1.5, 0, 0])


def test_ties_elects_the_sign_with_the_greater_mass_not_the_greater_number():
    close(merged("ties", [3, -1], [-1, -1], [-1, 1], density=1), [3, -1])


def test_ties_elects_no_sign_where_values_cancel():
    close(merged("ties", [2, 2], [-2, 1], density=1), [0, 1.5])


def test_ties_weights_take_part_in_the_election():
    close(merged("ties", [2], [-3], density=1), [-3])
    close(merged("ties", [2], [-3], density=1, weight=[2, 1]), [4])


def test_ties_trims_by_default_to_a_fifth():
    close(merged("ties", range(10)), [0, 0, 0, 0, 0, 0, 0, 0, 8, 9])


def test_trimming_keeps_ties_at_the_threshold():
    close(keep_largest_(tensor(1, -2, 2, 3), 0.5), [0, -2, 2, 3])


def test_trimming_works_beyond_the_size_that_quantile_can_take():
    values = torch.zeros(2**24 + 8)
    values[-3:] = torch.tensor([1.0, -2.0, 3.0])
    assert keep_largest_(values, 2 / values.numel()).nonzero().flatten().tolist() == [
        values.numel() - 2,
        values.numel() - 1,
    ]


def masks(seed: int, density: float, size: int, experts: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(size, generator=generator) < density for _ in range(experts)]


def test_dare_drops_by_the_generator_and_divides_by_the_density():
    first, second = tensor(1, 2, 3, 4, 5, 6), tensor(6, -5, 4, -3, 2, -1)
    kept = masks(7, 0.5, 6, 2)
    expected = 0.3 * (first * kept[0] / 0.5 + second * kept[1] / 0.5)
    close(merged("dare", first, second, density=0.5, weight=0.3, seed=7), expected)


def test_dare_keeps_the_expectation_and_the_share():
    ones = torch.ones(100_000)
    result = merged("dare", ones, density=0.3)
    assert float((result != 0).double().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(result.mean()) == pytest.approx(1, abs=0.02)


def test_dare_by_l1_restores_the_sum_of_magnitudes():
    vector = torch.arange(1, 101, dtype=torch.float64) * torch.tensor([1.0, -1.0]).repeat(50)
    result = merged("dare", vector, density=0.5, rescale="l1")
    assert float(result.abs().sum()) == pytest.approx(5050)
    assert 30 < int((result != 0).sum()) < 70


def test_dare_ties_elects_among_what_the_dropping_left():
    first, second = tensor(1, 2, 3, 4, 5, 6), tensor(6, -5, 4, -3, 2, -1)
    kept = masks(1, 0.8, 6, 2)
    expected, expected_sum = [], []
    for a, b in zip(first * kept[0] / 0.8, second * kept[1] / 0.8, strict=True):
        sign = np.sign(float(a + b))
        agreeing = [float(value) for value in (a, b) if value * sign > 0]
        expected.append(sum(agreeing) / max(1, len(agreeing)))
        expected_sum.append(sum(agreeing))
    assert expected != expected_sum
    settings = {"density": 0.8, "seed": 1}
    close(merged("dare_ties", first, second, **settings), expected)
    close(merged("dare_ties", first, second, consensus="sum", **settings), expected_sum)


def test_dare_ties_keeps_of_each_expert_its_own_share():
    first, second = tensor(1, 2, 3, 4, 5, 6), tensor(6, 5, 4, 3, 2, 1)
    kept = torch.rand(6, generator=torch.Generator().manual_seed(1)) < 0.5
    settings = {"density": (0.5, 1.0), "seed": 1, "consensus": "sum"}
    close(merged("dare_ties", first, second, **settings), first * kept / 0.5 + second)
    close(merged("dare_ties", first, second, density=[0.0, 1.0]), second)


def test_breadcrumbs_leaves_out_the_largest_and_keeps_the_next_of_each_row():
    row = [1, -2, 3, -4, 5, -6, 7, -8, 9, -10]
    other = [value * 100 for value in reversed(row)]
    result = merged("breadcrumbs", [row, other], density=0.3, gamma=0.2, weight=1)
    close(result[0], [0, 0, 0, 0, 0, -6, 7, -8, 0, 0])
    close(result[1], [0, 0, -800, 700, -600, 0, 0, 0, 0, 0])


def test_breadcrumbs_leaves_out_nothing_at_full_density():
    close(merged("breadcrumbs", [1, 2, 3, 4], density=1, gamma=0.5, weight=1), [1, 2, 3, 4])


def test_breadcrumbs_adds_up_the_experts():
    close(merged("breadcrumbs", [1, 2], [4, 3], density=1, gamma=0, weight=[1, 10]), [41, 32])


def test_della_keeps_large_entries_more_often_and_divides_by_their_own_probability():
    vector = tensor(-3, 1, 5, 2, -4)
    probability = torch.tensor([0.5, 0.1, 0.9, 0.3, 0.7])
    drawn = torch.rand(5, generator=torch.Generator().manual_seed(2))
    expected = torch.where(drawn < probability, vector / probability, 0)
    close(merged("della", vector, density=0.5, epsilon=0.4, seed=2), expected, 1e-6)


def test_della_ranks_each_row_by_itself():
    vector = torch.tensor([[1.0, 2.0], [400.0, 300.0]]).repeat(5000, 1)
    shares = (merged("della", vector, density=0.5, epsilon=0.4) != 0).double()
    close(shares[0::2].mean(dim=0), [0.1, 0.9], 0.02)
    close(shares[1::2].mean(dim=0), [0.9, 0.1], 0.02)


def test_della_with_no_window_is_dare_ties():
    vectors = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    for consensus in ("mean", "sum"):
        close(
            merged("della", *vectors, density=0.5, epsilon=0, consensus=consensus),
            merged("dare_ties", *vectors, density=0.5, consensus=consensus),
            1e-6,
        )


def pcb_slowly(vectors: np.ndarray, density: float, weight: float) -> np.ndarray:
    """PCB-Merging by sorting, as its formula reads."""
    experts, size = vectors.shape
    scores, clipped = [], []
    for vector in vectors:
        ranked = np.sort(np.abs(vector))
        low, high = ranked[int(size * 1e-4)], ranked[int(size * (1 - 1e-4) - 1)]
        magnitude = np.clip(np.abs(vector), low, high)
        clipped.append(np.sign(vector) * magnitude)
        norm = (magnitude - low) / (high - low)
        score = np.exp(experts * norm**2) * np.tanh(vector * vectors.sum(axis=0))
        threshold = np.sort(score)[int(size * (1 - density))]
        scores.append(np.maximum(score - threshold, 0) / (score.max() - threshold))
    total = weight * sum(s * c for s, c in zip(scores, clipped, strict=True))
    return total / np.maximum(sum(scores), 1e-12)


def test_pcb_agrees_with_the_formula_computed_by_sorting():
    vectors = torch.randn(3, 200, generator=torch.Generator().manual_seed(0)).double()
    for density, weight in ((0.1, 1.0), (0.35, 1.2)):
        expected = pcb_slowly(vectors.numpy(), density, weight)
        close(merged("pcb", *vectors, density=density, weight=weight), expected.tolist(), 1e-6)


def test_pcb_of_one_expert_keeps_its_highest_scoring_entries_but_the_threshold():
    vector = torch.arange(1, 11) * tensor(1, -1).repeat(5)
    # Clipped at the second largest; of the three largest scores the third is the zero of the scale.
    close(merged("pcb", vector, density=0.3), [0, 0, 0, 0, 0, 0, 0, 0, 9, -9])


def test_model_stock_interpolates_by_the_angle():
    t = 2 * ROOT_HALF / (1 + ROOT_HALF)
    close(merged("model_stock", [1, 0], [1, 1]), [t, t / 2])


def test_model_stock_takes_the_mean_cosine_of_all_pairs():
    t = 3 * (1 / 3) / (1 + 2 * (1 / 3))
    close(merged("model_stock", [1, 0], [3, 0], [0, 2]), [t * 4 / 3, t * 2 / 3])


@pytest.mark.parametrize("second", [[0.0, 2.0], [-1.0, 0.0], [-3.0, 0.1], [0.0, 0.0]])
def test_model_stock_stays_at_the_pretrained_values_where_experts_disagree(second):
    close(merged("model_stock", [1, 0], second), [0, 0])


def test_slerp_follows_the_arc():
    pretrained = tensor(0, 0)
    for first, second, t, expected in (
        ([1, 0], [0, 1], 0.5, [ROOT_HALF, ROOT_HALF]),
        ([1, 0], [0, 1], 1 / 3, [math.sqrt(0.75), 0.5]),
        ([2, 0], [0, 4], 0.5, [2 * ROOT_HALF, 4 * ROOT_HALF]),
        ([2, 0], [0, 4], 0.0, [2, 0]),
        ([2, 0], [0, 4], 1.0, [0, 4]),
    ):
        result = operators.merge("slerp", pretrained, [tensor(*first), tensor(*second)], t=t)
        close(result, expected)


def test_slerp_is_linear_for_parallel_opposite_and_zero_values():
    for first, second, expected in (
        ([1, 0], [3, 0], [1.5, 0]),
        ([1, 0], [-3, 0], [0, 0]),
        ([0, 0], [4, 8], [1, 2]),
    ):
        values = [tensor(*first), tensor(*second)]
        close(operators.merge("slerp", tensor(0, 0), values, t=0.25), expected)


def test_slerp_does_not_use_the_pretrained_values():
    values = [tensor(1, 2), tensor(2, -1)]
    close(
        operators.merge("slerp", tensor(0, 0), values),
        operators.merge("slerp", tensor(5, -7), values),
    )


def test_nuslerp_follows_the_arc_between_task_vectors():
    close(merged("nuslerp", [1, 0], [0, 1]), [ROOT_HALF, ROOT_HALF])
    close(merged("nuslerp", [1, 0], [0, 1], weight=[2, 1]), [math.sqrt(0.75), 0.5])
    close(merged("nuslerp", [1, 0], [0, 1], weight=0), [ROOT_HALF, ROOT_HALF])


def test_karcher_averages_directions_and_norms():
    pretrained = tensor(9, 9, 9)
    one, two, three = tensor(1, 0, 0), tensor(0, 2, 0), tensor(0, 0, 3)
    result = operators.merge("karcher", pretrained, [one, two, three])
    close(result, [2 / math.sqrt(3)] * 3, 1e-5)


def test_karcher_of_two_is_slerp_halfway():
    values = [tensor(1, 2, 2), tensor(2, -2, 1)]
    close(
        operators.merge("karcher", tensor(0, 0, 0), values),
        operators.merge("slerp", tensor(0, 0, 0), values),
        1e-6,
    )


def test_karcher_mean_balances_the_arcs_unlike_the_normalised_mean():
    close_by = [math.cos(1.5), math.sin(1.5), 0]
    values = [tensor(1, 0, 0), tensor(1, 0, 0), tensor(*close_by)]
    result = operators.merge("karcher", tensor(0, 0, 0), values)
    assert math.atan2(float(result[1]), float(result[0])) == pytest.approx(0.5, abs=1e-4)


def test_karcher_gives_an_expert_of_zeros_no_direction_but_counts_its_norm():
    result = operators.merge("karcher", tensor(0, 0), [tensor(0, 0), tensor(0, 4)])
    close(result, [0, 2])


def test_sce_weighs_by_squared_norm_and_erases_the_minority_sign():
    # Squared norms 10 and 5.
    close(merged("sce", [3, 1], [1, -2]), [35 / 15, -2])


def test_sce_selects_the_entries_of_greatest_variance_before_it_weighs():
    # Variances 4, 1, 0.25 and zeros: the first is kept of the three that vary; squared norms 25, 1.
    vectors = [5, 2, 1, 7, 7, 7], [1, 4, 2, 7, 7, 7]
    close(merged("sce", *vectors, density=1 / 3), [126 / 26, 0, 0, 0, 0, 0])


def test_ram_averages_shared_changes_and_keeps_unique_ones():
    close(merged("ram", [1, 0, 2e-6], [3, 2, 0]), [2, 2, 0])
    close(merged("ram", [1, 0, 2e-6], [3, 2, 0], epsilon=2), [3, 0, 0])


def test_consensus_keeps_what_enough_experts_use():
    vectors = [1, 5, 3], [2, 0.1, -3]
    close(merged("consensus", *vectors, weight=0.5), [1.5, 0, 0])
    close(merged("consensus", *vectors, agreement=1, weight=0.5), [1.5, 2.55, 0])
    close(merged("consensus", *vectors, mask=3, agreement=1, weight=1), [0, 5.1, 0])
    close(merged("consensus", *vectors, agreement=0), 0.3 * tensor(3, 5.1, 0))
    close(merged("consensus", *vectors, weight=[1, 0]), [1, 0, 3])


def test_emr_takes_the_largest_value_of_the_elected_sign():
    close(merged("emr", [1, -4, 2], [3, 1, -2]), [3, -4, 0])
    close(merged("emr", [1, -4, 2], [3, 1, -2], weight=[5, 1]), [5, -20, 10])


def test_magmax_takes_the_change_of_greatest_magnitude():
    close(merged("magmax", [3, 1, 2], [-1, -4, -2]), [1.5, -2, 1])
    close(merged("magmax", [3, 1], [-1, -4], weight=[1, 10]), [-10, -40])


def test_iso_c_sets_every_singular_value_to_their_mean():
    matrix = [[3.0, 0.0], [0.0, -1.0]]
    close(merged("iso_c", matrix, matrix), [[2, 0], [0, -2]])
    close(merged("iso_c", matrix, matrix, weight=1), [[4, 0], [0, -4]])


def test_iso_c_does_not_fill_directions_the_experts_never_moved_in():
    close(merged("iso_c", [[4.0, 0.0], [0.0, 0.0]]), [[2, 0], [0, 0]])


def test_iso_c_has_a_flat_spectrum_of_unchanged_sum():
    vectors = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0)).double()
    result = torch.linalg.svdvals(merged("iso_c", *vectors))
    before = torch.linalg.svdvals(vectors.mean(dim=0))
    close(result, [float(before.mean())] * 5, 1e-6)


@pytest.mark.parametrize("name", ["iso_c", "tsv_m"])
def test_matrix_operators_average_what_is_no_matrix(name):
    close(merged(name, [1, 2], [3, -2]), [2, 0])
    close(merged(name, [[[1.0]]], [[[3.0]]]), [[[2]]])


def test_tsv_m_keeps_each_tasks_leading_direction():
    close(merged("tsv_m", [[3, 0], [0, 1]], [[2, 0], [0, 5]]), [[3, 0], [0, 5]])
    close(merged("tsv_m", [[3, 0], [0, 1]], [[2, 0], [0, 5]], weight=[2, 1]), [[6, 0], [0, 5]])


def test_tsv_m_makes_the_tasks_directions_orthogonal():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(2, 6, 4, generator=generator).double()
    pieces = [np.linalg.svd(vector.numpy()) for vector in vectors]
    left = np.concatenate([u[:, :2] for u, _, _ in pieces], axis=1)
    right = np.concatenate([vh[:2].T for _, _, vh in pieces], axis=1)
    values = np.concatenate([s[:2] for _, s, _ in pieces])
    expected = whitened(left) @ np.diag(values) @ whitened(right).T
    close(merged("tsv_m", *vectors), expected.tolist(), 1e-6)


def whitened(matrix: np.ndarray) -> np.ndarray:
    """The polar factor by another road: A (AᵀA)^(-1/2)."""
    values, vectors = np.linalg.eigh(matrix.T @ matrix)
    return matrix @ vectors @ np.diag(values**-0.5) @ vectors.T


def test_tsv_m_gives_coinciding_directions_once():
    matrix = torch.outer(tensor(1, 2, 3), tensor(1, -1))
    close(merged("tsv_m", matrix, matrix), matrix, 1e-6)


def test_karcher_stops_after_the_given_number_of_iterations():
    values = [tensor(1, 0, 0), tensor(0, 1, 0), tensor(-0.6, 0, 0.8)]
    assert (
        slope_at(operators.merge("karcher", tensor(0, 0, 0), values, iterations=1), values) > 0.01
    )
    assert (
        slope_at(operators.merge("karcher", tensor(0, 0, 0), values, iterations=30), values) < 1e-4
    )


def slope_at(mean: torch.Tensor, values: list[torch.Tensor]) -> float:
    """How far the mean is from balancing the arcs to all values; zero at the Karcher mean."""
    mean, pull = mean / mean.norm(), torch.zeros_like(mean)
    for value in values:
        cosine = float(mean @ value)
        pull += math.acos(cosine) / math.sqrt(1 - cosine**2) * (value - cosine * mean)
    return float(pull.norm())


def regression(seed: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of a linear layer, correlated and of uneven size, and the layer's own weight."""
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(rows, 4)) @ generator.normal(size=(4, 4))
    return inputs, generator.normal(size=(3, 4))


def regmean(layers: list[tuple[np.ndarray, np.ndarray]], alpha: float) -> torch.Tensor:
    weights = [torch.from_numpy(weight) for _, weight in layers]
    grams = [torch.from_numpy(inputs.T @ inputs) for inputs, _ in layers]
    return operators.merge(
        "regmean", torch.zeros_like(weights[0]), weights, statistics=grams, alpha=alpha
    )


def test_regmean_is_the_least_squares_solution_over_the_union_of_the_inputs():
    layers = [regression(seed, rows) for seed, rows in ((0, 9), (1, 30), (2, 15))]
    inputs = np.concatenate([inputs for inputs, _ in layers])
    outputs = np.concatenate([inputs @ weight.T for inputs, weight in layers])
    solution = np.linalg.lstsq(inputs, outputs, rcond=None)[0].T
    close(regmean(layers, alpha=1), solution.tolist(), 1e-6)


def test_regmean_with_nothing_off_the_diagonal_weighs_each_input_by_its_size():
    # Inputs 3 and 1 in size: (9 * 2 + 1 * 6) / 10; the second input is as large in both.
    first = np.array([[3.0, 1.0]]), np.array([[2.0, 1.0]])
    second = np.array([[1.0, -1.0]]), np.array([[6.0, 5.0]])
    close(regmean([first, second], alpha=0), [[2.4, 3.0]], 1e-6)


def test_regmean_scales_by_alpha_what_is_off_the_diagonal():
    layers = [regression(seed, 12) for seed in (3, 4)]
    damped = []
    for inputs, _ in layers:
        gram = inputs.T @ inputs
        damped.append(0.9 * gram + 0.1 * np.diag(np.diag(gram)))
    pull = sum(gram @ weight.T for gram, (_, weight) in zip(damped, layers, strict=True))
    expected = np.linalg.inv(sum(damped)) @ pull
    close(regmean(layers, alpha=0.9), expected.T.tolist(), 1e-6)


def test_regmean_keeps_the_mean_where_no_expert_ever_had_an_input():
    # Only the sum of the two inputs was ever seen, and the third never.
    first = np.array([[1.0, 1.0, 0.0]]), np.array([[1.0, 3.0, 5.0]])
    second = np.array([[3.0, 3.0, 0.0]]), np.array([[2.0, 0.0, 9.0]])
    result = regmean([first, second], alpha=1)
    # Their sum is (1 * 4 + 9 * 2) / 10 = 2.2, spread evenly around the mean (1.5, 1.5).
    close(result, [[1.1, 1.1, 7.0]], 1e-6)


def test_regmean_without_statistics_is_the_mean():
    close(merged("regmean", [[1, 2]], [[3, -2]]), [[2, 0]])


def test_fisher_weighs_each_entry_by_its_information():
    information = [tensor(1, 0, 0, 2), tensor(3, 5, 0, 2)]
    vectors = [4, 1, 1, 1], [8, 7, 3, 3]
    close(merged("fisher", *vectors, statistics=information), [7, 7, 2, 2])
    close(merged("fisher", *vectors, statistics=information, weight=[3, 1]), [6, 7, 1.5, 1.5])


def test_fisher_without_statistics_is_the_weighted_mean():
    close(merged("fisher", [1, 2], [3, -2]), [2, 0])
    close(merged("fisher", [1, 2], [3, -2], weight=[1, 3]), [2.5, -1])


def test_fisher_weighs_by_proportion_however_small_the_information():
    tiny = [tensor(1e-40, 3e-44).float(), tensor(3e-40, 9e-44).float()]
    pretrained, experts = torch.zeros(2), [torch.full((2,), 4.0), torch.full((2,), 8.0)]
    close(operators.merge("fisher", pretrained, experts, statistics=tiny), [7, 7], 0.05)
