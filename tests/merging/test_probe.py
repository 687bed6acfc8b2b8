"""The linear probe against scikit-learn's ridge regression on features of a plain model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from transformers import ViTModel

from merge_gym import LayerBank
from merge_gym.merging.heads import STRENGTHS
from merge_gym.merging.probe import probe


@torch.no_grad()
def test_it_is_ridge_regression_to_the_labels_on_the_trunks_features(suite):
    task = suite.tasks["high"]
    trunk = ViTModel.from_pretrained(suite.experts["low"].location, add_pooling_layer=False).eval()
    x, y = {}, {}
    for name, split in task.splits.items():
        x[name] = trunk(**split.inputs).last_hidden_state[:, 0].double().numpy()
        y[name] = split.labels.numpy()
    targets = np.eye(suite.experts["high"].config.num_labels)[y["search"]]
    singular = np.linalg.svd(x["search"] - x["search"].mean(0), compute_uv=False)
    chosen = RidgeCV(STRENGTHS * (singular**2).mean()).fit(x["search"], targets)
    left_out = cross_val_predict(Ridge(chosen.alpha_), x["search"], targets, cv=LeaveOneOut())
    expected = {
        "search": (left_out.argmax(1) == y["search"]).mean(),
        "test": (chosen.predict(x["test"]).argmax(1) == y["test"]).mean(),
    }
    bank = LayerBank(suite)
    recipe = bank.resolve(bank.uniform(bank.candidates.source("low")))
    assert probe(recipe, bank, "high") == pytest.approx(expected)
    assert expected["test"] > 1 / 3
