"""Scoring recipes: the plain reference, and the engine that gives the same scores for less."""

from merge_gym.evaluation.reference import ReferenceEvaluator, Scorer

Evaluator = ReferenceEvaluator

__all__ = ["Evaluator", "ReferenceEvaluator", "Scorer"]
