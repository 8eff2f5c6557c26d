"""The JSON files that lie beside published weights, held to what this program can express."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from catvton_ov.errors import ExportError
from catvton_ov.samplers import NoiseSchedule

Config = dict[str, Any]

# What a config may say, by field: whatever else would need other inputs or another graph. A field that is
# absent has the default of the diffusers class, which is the first value of each tuple.
_UNET: Mapping[str, tuple[object, ...]] = {
    "addition_embed_type": (None,),
    "attention_type": ("default",),
    "class_embed_type": (None,),
    "dual_cross_attention": (False,),
    "encoder_hid_dim": (None,),
    "encoder_hid_dim_type": (None,),
    "mid_block_only_cross_attention": (None, False),
    "mid_block_type": ("UNetMidBlock2DCrossAttn",),
    "num_class_embeds": (None,),
    "only_cross_attention": (False,),
    "time_cond_proj_dim": (None,),
    "time_embedding_type": ("positional",),
}
_UNET_BLOCKS = ("CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")
_VAE: Mapping[str, tuple[object, ...]] = {
    "in_channels": (3,),
    "out_channels": (3,),
    "latents_mean": (None,),
    "latents_std": (None,),
    "shift_factor": (None, 0),
    "use_post_quant_conv": (True,),
    "use_quant_conv": (True,),
}

# The scheduler, likewise; defaults are those of diffusers' DDIMScheduler, as which the reference loads it.
_SCHEDULER: Mapping[str, tuple[object, ...]] = {
    "beta_schedule": ("linear", "scaled_linear"),
    "clip_sample": (True, False),  # see read_schedule: only False can be expressed
    "prediction_type": ("epsilon",),
    "rescale_betas_zero_snr": (False,),
    "thresholding": (False,),
    "timestep_spacing": ("leading", "trailing", "linspace"),
    "trained_betas": (None,),
}
_SCHEDULE_DEFAULTS: Config = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "steps_offset": 0,
    "set_alpha_to_one": True,
    "timestep_spacing": "leading",
    "prediction_type": "epsilon",
}


def read_config(path: Path, class_name: str | None = None) -> Config:
    """The JSON object in `path`.

    Raises:
        ExportError: not a JSON object, or its `_class_name` is there and is not `class_name`.
    """
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ExportError(f"{path} cannot be read as JSON: {error}.") from None
    if not isinstance(config, dict):
        raise ExportError(f"{path} must hold a JSON object; it holds a {type(config).__name__}.")
    named = config.get("_class_name", class_name)
    if class_name is not None and named != class_name:
        raise ExportError(f"{path} describes a {named}; expected a {class_name}.")
    return config


def read_unet_config(path: Path) -> Config:
    """The UNet's config; raises ExportError naming the field that asks for more than SD1.5's architecture."""
    config = read_config(path, "UNet2DConditionModel")
    _require(config, _UNET, path)
    for field in ("down_block_types", "up_block_types"):
        for block in config.get(field, ()):
            if block not in _UNET_BLOCKS:
                raise ExportError(f"{path}: {field} has {block!r}; expected only {', '.join(_UNET_BLOCKS)}.")
    return config


def read_vae_config(path: Path) -> Config:
    """The VAE's config; raises ExportError naming the field that asks for more than SD1.5's architecture."""
    config = read_config(path, "AutoencoderKL")
    _require(config, _VAE, path)
    return config


def check_fit(unet: Mapping[str, Any], vae: Mapping[str, Any]) -> None:
    """Raise ExportError unless the UNet takes two latents and a mask (2C + 1 channels) and gives a latent (C)."""
    latent = vae["latent_channels"]
    if unet["in_channels"] != 2 * latent + 1 or unet["out_channels"] != latent:
        raise ExportError(
            f"The UNet and the VAE do not fit: with {latent} latent channels an inpainting UNet has {2 * latent + 1} "
            f"input and {latent} output channels; this one has {unet['in_channels']} and {unet['out_channels']}."
        )


def read_schedule(path: Path) -> NoiseSchedule:
    """The noise schedule in a `scheduler_config.json` (of DDIM, or of another scheduler read as DDIM).

    Raises:
        ExportError: naming the field that a NoiseSchedule cannot express.
    """
    config = read_config(path)
    _require(config, _SCHEDULER, path)
    if config.get("clip_sample", True):
        raise ExportError(f"{path}: clip_sample must be false and be there (DDIM's default is true).")
    known = {name: config.get(name, default) for name, default in _SCHEDULE_DEFAULTS.items()}
    try:
        schedule = TypeAdapter(NoiseSchedule).validate_json(json.dumps(known), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        raise ExportError(f"{path}: {first['loc'][0]}: {first['msg']}; got {first['input']!r}.") from None
    if not 0 < schedule.beta_start <= schedule.beta_end < 1:
        raise ExportError(
            f"{path}: expected 0 < beta_start <= beta_end < 1; got {schedule.beta_start} and {schedule.beta_end}."
        )
    if schedule.num_train_timesteps < 3 or schedule.steps_offset not in (0, 1):
        raise ExportError(
            f"{path}: expected num_train_timesteps of at least 3 and steps_offset 0 or 1; "
            f"got {schedule.num_train_timesteps} and {schedule.steps_offset}."
        )
    return schedule


def _require(config: Config, allowed: Mapping[str, tuple[object, ...]], path: Path) -> None:
    for field, values in allowed.items():
        value = config.get(field, values[0])
        if not any(value is each or (each is not None and value == each) for each in values):
            expected = " or ".join(json.dumps(each) for each in values)
            raise ExportError(f"{path}: {field} is {json.dumps(value)}; this program can use only {expected}.")
