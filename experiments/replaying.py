"""Recorded searches, and what scoring them again costs."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm
from transformers import PretrainedConfig

import agents
from merge_gym.envs.making import make_vector_env
from merge_gym.evaluation.engine import Counts, Evaluator
from merge_gym.evaluation.products import convolve
from merge_gym.evaluation.reference import ReferenceEvaluator
from merge_gym.evaluation.scorer import Outcome, Request, Scorer
from merge_gym.merging.assembly import assemble
from merge_gym.merging.bank import LayerBank
from merge_gym.models import Checkpoint, Layout, Parameters, adapter_for
from merge_gym.models.parameters import SHARED
from merge_gym.models.weights import build, own_tensors
from merge_gym.recipe import Layer, Recipe, Source
from merge_gym.spaces.episode import Episode
from merge_gym.spaces.walk import Walk
from merge_gym.studies.study import Study
from merge_gym.suites import Split, Suite, Task

Play = tuple[Recipe, int]
"""A scored episode: its recipe, and the subset that it was scored on."""


@dataclass
class Clock:
    """Seconds of CPU and of the wall, summed over what ran inside `running()`."""

    cpu: float = 0.0
    wall: float = 0.0
    parts: list[float] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[None]:
        cpu, wall = time.process_time(), time.perf_counter()
        yield
        self.parts.append(time.process_time() - cpu)
        self.cpu += self.parts[-1]
        self.wall += time.perf_counter() - wall


class Clocked(Scorer):
    """A Scorer that measures the time another one takes."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer, self.clock = scorer, Clock()
        self.tasks, self.subset_count = scorer.tasks, scorer.subset_count

    def evaluate(self, requests: Sequence[Request]) -> list[Outcome]:
        with self.clock.running():
            return self.scorer.evaluate(requests)

    def cost(self, request: Request) -> int:
        return self.scorer.cost(request)


@dataclass(frozen=True)
class Recording:
    """A search as it was played.

    Attributes:
        plays: its scored episodes, in order.
        whole: the time of the search, scoring included.
        scoring: the time of scoring alone.
    """

    plays: list[Play]
    whole: Clock
    scoring: Clock


def record(
    suite: Suite, policy: str, episodes: int, subsets: int, seed: int, directory: Path
) -> Recording:
    """Let an agent play and keep what it did."""
    bank = LayerBank(suite)
    clocked, whole = Clocked(Evaluator(bank, subsets)), Clock()
    # Top 1: the final selection is not what is measured.
    agent = agents.make(policy, episodes=episodes, top=1)
    study = Study(Walk(bank.candidates), clocked, seed=seed, directory=directory)
    with whole.running(), study:
        agent.search(study)
    plays = [
        (trial.recipe, trial.subsets[0]) for trial in study.trials if trial.subsets is not None
    ]
    return Recording(plays, whole, clocked.clock)


@dataclass(frozen=True)
class Replay:
    """The same plays through reference and engine.

    Attributes:
        reference, engine: their time.
        asked, executed: layer forwards, in examples through one layer.
        last: those of `executed` that ran only where the head reads them.
        flops: floating-point operations per second that the engine executed, in its CPU time.
    """

    plays: int
    reference: Clock
    engine: Clock
    asked: int
    executed: int
    last: int
    flops: float

    @property
    def ratio(self) -> float:
        """How many times less CPU time the engine takes."""
        return self.reference.cpu / self.engine.cpu


def replay(
    bank: LayerBank, plays: Sequence[Play], subsets: int, block: int = 10, cold: bool = False
) -> Replay:
    """Score `plays` with both evaluators, a block with one and then with the other.

    Args:
        bank: the candidates, all merged before the clocks start.
        plays: what to score.
        subsets: S of the recording.
        block: plays between two changes of evaluator.
        cold: let the engine forget everything but modules and stems before each play.

    Raises RuntimeError where two rewards differ.
    """
    _merge(bank)
    reference, engine = ReferenceEvaluator(bank, subsets), Evaluator(bank, subsets)
    if cold:
        _warm_up(engine)
    clocks = Clock(), Clock()
    for start in tqdm(range(0, len(plays), block), unit="block", disable=None, leave=False):
        part = plays[start : start + block]
        with clocks[0].running():
            expected = [reference.score(recipe, subset=subset) for recipe, subset in part]
        scores = []
        for recipe, subset in part:
            if cold:
                engine.forget()
            with clocks[1].running():
                scores.append(engine.score(recipe, subset=subset))
        if scores != expected:
            raise RuntimeError(f"rewards differ in the plays from {start}: report this")
    counts, (full, last) = engine.counts, layer_flops(bank)
    return Replay(
        plays=len(plays),
        reference=clocks[0],
        engine=clocks[1],
        asked=counts.asked,
        executed=counts.full + counts.last,
        last=counts.last,
        flops=(counts.full * full + counts.last * last) / clocks[1].cpu,
    )


def subset_and_whole(
    bank: LayerBank, plays: Sequence[Play], subsets: int, block: int = 10
) -> tuple[Clock, Clock]:
    """The engine's time for the same recipes on the subsets they were played on and on the whole
    search split, a block with one and then with the other."""
    _merge(bank)
    parts, whole = Evaluator(bank, subsets), Evaluator(bank, subsets)
    clocks = Clock(), Clock()
    for start in tqdm(range(0, len(plays), block), unit="block", disable=None, leave=False):
        for recipe, subset in plays[start : start + block]:
            with clocks[0].running():
                parts.score(recipe, subset=subset)
        for recipe, _ in plays[start : start + block]:
            with clocks[1].running():
                whole.score(recipe)
    return clocks


@dataclass(frozen=True)
class Exactness:
    """The engine held against the reference on random recipes.

    Attributes:
        recipes: how many, stacked and skipped layers included.
        unequal: examples whose metric differs.
        deviation: the greatest difference between two logits.
        plain: whether logits are equal to the bit with `fused=False`.
    """

    recipes: int
    unequal: int
    deviation: float
    plain: bool


def exactness(bank: LayerBank, count: int, subsets: int = 10) -> Exactness:
    """Compare logits and metrics, each recipe on a random subset."""
    reference, engine = ReferenceEvaluator(bank, subsets), Evaluator(bank, subsets)
    plain = Evaluator(bank, subsets, fused=False)
    generator = np.random.default_rng(1)
    unequal, deviation, same = 0, 0.0, True
    for _ in tqdm(range(count), unit="recipe", disable=None, leave=False):
        recipe, subset = random_recipe(bank, generator), int(generator.integers(subsets))
        values = engine.values(recipe, subset=subset)
        for task, metric in values.items():
            expected = reference.logits(recipe, task, subset=subset)
            classes = expected.argmax(-1)
            labels = reference.examples.labels(task, "search", subset)
            unequal += int(((classes == labels).numpy() != (metric == 1)).sum())
            logits = engine.logits(recipe, task, subset=subset)
            deviation = max(deviation, float((logits - expected).abs().max()))
            same &= torch.equal(plain.logits(recipe, task, subset=subset), expected)
    return Exactness(count, unequal, deviation, same)


def _merge(bank: LayerBank) -> None:
    """Merge every candidate, before a clock starts."""
    for source in bank.candidates.sources:
        bank.parameters(source)


def _warm_up(engine: Evaluator) -> None:
    """Score all uniform recipes, so that modules and stems are there, and count from zero."""
    for source in engine.bank.candidates.sources:
        for subset in range(engine.subset_count):
            engine.score(Recipe.uniform(source, engine.bank), subset=subset)
    engine.counts = Counts()


@torch.inference_mode()
def layer_flops(bank: LayerBank) -> tuple[int, int]:
    """Floating-point operations of one example in a whole layer, and in a last layer."""
    adapter, task = bank.suite.adapter, next(iter(bank.suite.tasks))
    segment = next(iter(bank.candidates.segments))
    model = assemble(Recipe.uniform(bank.candidates.sources[0], bank), bank, task)
    inputs = bank.suite.tasks[task].splits["search"][:1].inputs
    hidden, context = adapter.enter(model, segment, inputs, None)
    module = adapter.layers(model)[segment][0]
    flops = []
    for layer in (adapter.layer, adapter.last_layer or adapter.layer):
        with FlopCounterMode(display=False) as counter:
            layer(module, hidden, context)
        flops.append(counter.get_total_flops())
    return flops[0], flops[1]


@torch.inference_mode()
def gemm_peak(rows: int = 3072, size: int = 768, repeats: int = 20) -> dict[str, float]:
    """Floating-point operations per second of the fastest of some float32 matrix products: by
    torch's BLAS (`product`) and as a convolution (`convolution`)."""
    values = torch.randn(rows, size)
    plain = nn.Linear(size, size, bias=False)
    convolved = convolve(nn.Sequential(plain))
    clocks = {"product": Clock(), "convolution": Clock()}
    for _ in range(repeats):
        for layer, clock in zip((plain, convolved), clocks.values(), strict=True):
            with clock.running():
                layer(values)
    return {name: 2 * rows * size**2 / min(clock.parts) for name, clock in clocks.items()}


@dataclass(frozen=True)
class Memory:
    """Resident memory over random episodes, in bytes.

    Attributes:
        budget: `cache_bytes`.
        bank: the candidates' tensors.
        before: with suite and bank in memory, before the evaluator is made.
        samples: {episodes scored: resident bytes}.
    """

    budget: int
    bank: int
    before: int
    samples: dict[int, int]


def memory(bank: LayerBank, episodes: int, budget: int, subsets: int = 10) -> Memory:
    """Score random episodes, stacking included, and look at the memory every tenth of them."""
    held = sum(bank.parameters(source).flat.nbytes for source in bank.candidates.sources)
    gc.collect()
    before, samples = resident(), {}
    engine = Evaluator(bank, subsets, cache_bytes=budget)
    generator = np.random.default_rng(0)
    for episode in tqdm(range(1, episodes + 1), unit="episode", disable=None, leave=False):
        engine.score(random_recipe(bank, generator), subset=int(generator.integers(subsets)))
        if episode % (episodes // 10) == 0:
            samples[episode] = resident()
    return Memory(budget, held, before, samples)


@dataclass(frozen=True)
class Mixes:
    """Recipes with a λ of their own for each layer and expert.

    Attributes:
        recipes: how many were merged by themselves.
        merging: the time that took.
        memory: resident memory while the recipes of `memory.samples` were scored; its budget is
            that of cache and bank together.
    """

    recipes: int
    merging: Clock
    memory: Memory


def mixes(
    suite: Suite, count: int, most: int, cache_bytes: int, bank_bytes: int, subsets: int = 10
) -> Mixes:
    """Merge the layers of `count` random mixes, then score `most` of them on random subsets and
    look at the memory."""
    bank, clock = LayerBank(suite, bank_bytes=bank_bytes), Clock()
    generator = np.random.default_rng(0)
    with clock.running():
        for _ in range(count):
            recipe = random_mix(bank, generator)
            for segment, layers in bank.resolve(recipe).segments:
                for layer in layers:
                    bank.layer(segment, layer)
    bank, generator = LayerBank(suite, bank_bytes=bank_bytes), np.random.default_rng(0)
    gc.collect()
    before, samples = resident(), {}
    engine = Evaluator(bank, subsets, cache_bytes=cache_bytes)
    for number in tqdm(range(1, most + 1), unit="recipe", disable=None, leave=False):
        recipe = random_mix(bank, generator)
        engine.evaluate([Request(recipe, subsets=(int(generator.integers(subsets)),))])
        if number % (most // 10) == 0:
            samples[number] = resident()
    return Mixes(count, clock, Memory(cache_bytes + bank_bytes, 0, before, samples))


def random_mix(bank: LayerBank, generator: np.random.Generator) -> Recipe:
    """Task arithmetic with a random λ for each layer and expert."""
    segments = []
    for segment, size in bank.candidates.segments.items():
        weights = generator.uniform(0, 1, (size, len(bank.suite.experts))).tolist()
        sources = [Source.operator("task_arithmetic", weight=weight) for weight in weights]
        layers = (Layer.of(index, source) for index, source in enumerate(sources))
        segments.append((segment, tuple(layers)))
    return Recipe(bank.candidates.digest, bank.candidates.shared, tuple(segments))


def random_recipe(bank: LayerBank, generator: np.random.Generator) -> Recipe:
    """The recipe of a uniformly random valid walk, skips and stacked layers included."""
    sizes = tuple(bank.candidates.segments.values())
    episode = Episode(len(bank.candidates.sources), sizes, max_steps=None)
    while not episode.ended:
        episode.step(int(generator.choice(np.flatnonzero(episode.mask()))))
    return bank.candidates.recipe(episode.taken)


def resident() -> int:
    """Resident memory of this process, in bytes (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def table_speed(file: Path, environments: int, steps: int = 500) -> float:
    """Episodes a second of CPU time that uniformly random actions finish on a table."""
    env = make_vector_env(num_envs=environments, table=str(file))
    env.reset(seed=0)
    choices = np.random.default_rng(0).integers(
        env.single_action_space.n, size=(steps, environments)
    )
    episodes, clock = 0, Clock()
    with clock.running():
        for actions in choices:
            _, _, terminated, truncated, _ = env.step(actions)
            episodes += int((terminated | truncated).sum())
    return episodes / clock.cpu


def random_suite(config: PretrainedConfig, examples: int) -> Suite:
    """A size, not a problem: random images, and two random experts around a random model.

    Args:
        config: of an image classifier.
        examples: of the search split of each of the two tasks.
    """
    torch.manual_seed(0)
    adapter = adapter_for(config)
    tensors = own_tensors(build(adapter, config))
    places = {name: adapter.place(name) for name in tensors}
    layout = Layout.of({places[name]: tuple(tensor.shape) for name, tensor in tensors.items()})
    grouped = {
        ((place.segment, place.index) if place.part == "layer" else SHARED, place.name): tensor
        for name, tensor in tensors.items()
        for place in [places[name]]
    }
    head = {name: tensor for name, tensor in tensors.items() if places[name].part == "head"}
    parameters = Parameters.gather(layout, grouped)

    def expert(name: str) -> Checkpoint:
        moved = parameters.flat + 0.02 * torch.randn_like(parameters.flat)
        return Checkpoint(name, config, Parameters(layout, moved), head, "F32")

    def split(count: int) -> Split:
        size = (count, config.num_channels, config.image_size, config.image_size)
        return Split({"pixel_values": torch.randn(size)}, torch.arange(count) % config.num_labels)

    experts = {name: expert(name) for name in ("first", "second")}
    tasks = {
        name: Task(name, name, "accuracy", {"search": split(examples), "test": split(1)})
        for name in experts
    }
    pretrained = Checkpoint("random", config, parameters, head, "F32")
    operators = ("average", "task_arithmetic", "ties")
    return Suite("random", "", "", pretrained, experts, tasks, operators, "average")
