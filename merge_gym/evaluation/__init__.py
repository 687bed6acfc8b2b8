"""Scoring recipes: the plain reference, and the engine that gives the same scores for less."""

from merge_gym.evaluation.engine import Evaluator
from merge_gym.evaluation.reference import ReferenceEvaluator, Scorer

__all__ = ["Evaluator", "ReferenceEvaluator", "Scorer"]
