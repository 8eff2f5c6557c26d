"""What may be measured."""

from __future__ import annotations

from catvton_ov.presets import PRESETS

YARDSTICKS = ("torch", "notebook", "notebook-fp16")
RECIPES = (*YARDSTICKS, *PRESETS)
MEANING = {
    "torch": "eager float32, guidance as batch 2, DDIM 50",
    "notebook": "INT8 of everything, attention inputs too; dynamic shapes; guidance as batch 2; DDIM 50",
    "notebook-fp16": "the notebook without its quantization: float weights; all else as there",
    "reference": "the paper's recipe: DDIM 50, eta 1, guidance on every step",
    "balanced": "12 steps of DPM-Solver++(2M), deep features reused on every second",
    "fast": "8 steps of DPM-Solver++(2M), deep features reused on two of three, guidance on the middle five",
}
