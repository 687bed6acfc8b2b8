"""What "Reinforced Model Merging" (arXiv:2503.21272) published, in percent; tables I to IV."""

METHODS = (
    "fine-tuned",
    "weight averaging",
    "task arithmetic",
    "TIES",
    "DARE",
    "RMM",
)
"""The methods that tables I to III share with this project, in the paper's order."""

PUBLISHED: dict[str, dict[str, tuple[float, ...]]] = {
    "I": {
        "ViT-S/32": (84.90, 75.13, 75.39, 75.09, 75.43, 79.53),
        "ViT-B/16": (92.21, 78.94, 79.08, 79.07, 79.10, 86.10),
    },
    "II": {"ViT-B/16": (85.20, 58.27, 58.53, 59.24, 58.43, 73.80)},
    "III": {
        "QA, T5-Small": (88.36, 69.21, 69.77, 67.05, 69.89, 80.52),
        "QA, T5-Base": (92.72, 85.55, 86.34, 85.42, 86.62, 88.94),
        "mixed, T5-Small": (69.02, 49.59, 50.86, 51.27, 51.02, 60.59),
        "mixed, T5-Base": (75.43, 56.28, 56.59, 56.54, 57.01, 68.99),
    },
}
"""{table: {backbone: the mean over its data sets for each of METHODS}}"""

RATIOS = (100, 10, 1)
"""Percent of the data that an episode's reward is taken from."""

ABLATION: dict[str, tuple[float, ...]] = {
    "with DAR": (73.86, 73.80, 73.61),
    "without DAR": (73.86, 72.97, 73.27),
}
"""Table IV: the mean over its two tasks, for each of RATIOS."""

HOURS = (3.86, 0.37, 0.04)
"""Table IV: the time of a search, for each of RATIOS."""
