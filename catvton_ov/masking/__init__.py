"""Masks: label tables, and the cloth-agnostic mask made from them."""

from catvton_ov.masking.agnostic import CATEGORIES, cloth_agnostic_mask

__all__ = ["CATEGORIES", "cloth_agnostic_mask"]
