"""What may be measured."""

from __future__ import annotations

from catvton_ov.presets import PRESETS

RECIPES = ("torch", "notebook", *PRESETS)
MEANING = {
    "torch": "eager float32, guidance as batch 2, DDIM 50",
    "notebook": "INT8 of everything, attention inputs too; dynamic shapes; guidance as batch 2; DDIM 50",
    "reference": "the paper's recipe: DDIM 50, eta 1, guidance on every step",
    "balanced": "few steps, guidance on the noisy ones",
    "fast": "few steps, guidance on the noisy ones, deep features reused",
}
