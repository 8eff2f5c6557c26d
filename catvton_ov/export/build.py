"""From published checkpoints to a bundle, in order."""

from __future__ import annotations

import gc
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from catvton_ov.bundle import FORMAT_VERSION, MANIFEST, PARTS, Latent, Manifest, Source, record_files
from catvton_ov.errors import ExportError
from catvton_ov.export import configs, convert
from catvton_ov.export.fetch import Fetched, fetch
from catvton_ov.export.options import CHECKPOINTS, ExportOptions
from catvton_ov.export.unet import load_unet
from catvton_ov.export.vae import LatentDecoder, PictureEncoder, downsampling, load_vae
from catvton_ov.samplers import NoiseSchedule

__all__ = ["ExportOptions", "export_bundle"]

FAMILY = "catvton-sd15"
MASK_BLUR = 9  # of the reference's repaint, at model size
NOTICE = "CatVTON's weights are for non-commercial use; do not dress people in pictures without their consent."
LICENCE = "CC BY-NC-SA 4.0, with the use restrictions of CreativeML OpenRAIL-M"
LICENCES = {"base": "CreativeML OpenRAIL-M", "vae": "MIT", "catvton": "CC BY-NC-SA 4.0"}

_WEIGHTS = "diffusion_pytorch_model"


def export_bundle(options: ExportOptions, progress: Callable[[str], None] | None = None) -> Path:
    """Convert the checkpoints that `options` names and write a bundle at `options.out`.

    All inputs are read and checked before anything is converted. The bundle is made in a temporary folder beside
    its place and renamed when whole: if this raises, KeyboardInterrupt included, nothing is left behind.

    Args:
        progress: called with a line for people before each step.

    Returns:
        The folder of the bundle.

    Raises:
        ExportError: the target exists or cannot be written, a source cannot be had, or a checkpoint is not
            what it should be.
    """
    say = progress or (lambda line: None)
    out = options.out.expanduser().absolute()
    if os.path.lexists(out):
        raise ExportError(f"{options.out} exists already: remove it or name another place with --out.")

    say("Fetching the checkpoints")
    sources = _fetch_all(options)
    unet_config_file, scheduler_file, unet_file = sources["base"].files
    vae_config_file, vae_file = sources["vae"].files
    (attention_file,) = sources["catvton"].files

    say("Reading and checking the checkpoints")
    schedule = configs.read_schedule(scheduler_file)
    unet_config = configs.read_unet_config(unet_config_file)
    vae_config = configs.read_vae_config(vae_config_file)
    vae = load_vae(vae_config, vae_file)
    predictor = load_unet(unet_config, unet_file, attention_file)
    configs.check_fit(predictor.unet.config, vae.config)
    latent = Latent(vae.config["latent_channels"], downsampling(vae), vae.config["scaling_factor"])
    sizes = options.sizes or CHECKPOINTS[options.checkpoint].sizes
    for width, height in sizes:
        if min(width, height) < 1 or width % latent.downsample or height % latent.downsample:
            raise ExportError(f"A size must be in multiples of {latent.downsample} pixels; got {width}x{height}.")

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
            folder = Path(temporary) / out.name
            folder.mkdir()
            # Each model shares its weights with the torch module; both are let go before the next is converted.
            say("Converting the VAE encoder")
            model = convert.convert_encoder(PictureEncoder(vae), latent.downsample)
            convert.save_model(model, folder / "vae_encoder", options.precision)
            say("Converting the VAE decoder")
            model = convert.convert_decoder(LatentDecoder(vae), latent.channels)
            convert.save_model(model, folder / "vae_decoder", options.precision)
            del model, vae
            gc.collect()
            say("Converting the UNet")
            model = convert.convert_unet(predictor, predictor.unet.config["in_channels"])
            del predictor
            convert.save_model(model, folder / "unet", options.precision)
            del model
            gc.collect()
            say("Writing the manifest")
            _write_configs(folder, options, unet_config, vae_config, schedule)
            manifest = _manifest(folder, options, sources, sizes, latent, schedule)
            (folder / MANIFEST).write_bytes(manifest.to_json())
            folder.rename(out)
    except OSError as error:
        raise ExportError(f"{options.out} could not be written: {error}.") from error
    return out


def _fetch_all(options: ExportOptions) -> dict[str, Fetched]:
    """Role -> its files, in the order in which export_bundle unpacks them."""
    weights = (f"{_WEIGHTS}.safetensors", f"{_WEIGHTS}.bin")
    attention = f"{CHECKPOINTS[options.checkpoint].folder}/attention/model.safetensors"
    base = (("unet/config.json",), ("scheduler/scheduler_config.json",), tuple(f"unet/{name}" for name in weights))
    return {
        "base": fetch(options.base, base, "base model"),
        "vae": fetch(options.vae, (("config.json",), weights), "VAE"),
        "catvton": fetch(options.catvton, ((attention,),), "CatVTON"),
    }


def _manifest(
    folder: Path,
    options: ExportOptions,
    sources: Mapping[str, Fetched],
    sizes: tuple[tuple[int, int], ...],
    latent: Latent,
    schedule: NoiseSchedule,
) -> Manifest:
    return Manifest(
        format_version=FORMAT_VERSION,
        name=f"catvton-{CHECKPOINTS[options.checkpoint].folder}",
        family=FAMILY,
        notice=NOTICE,
        precision=options.precision,
        sizes=sizes,
        size_multiple=latent.downsample,  # the VAE's need; the UNet's graph takes any size (see convert_unet)
        latent=latent,
        schedule=schedule,
        mask_blur=MASK_BLUR,
        parts={part: f"{part}/{convert.IR_NAME}" for part in PARTS},
        files=record_files(folder),
        sources=tuple(Source(role, at.repo, at.revision, LICENCES[role]) for role, at in sources.items()),
        licence=LICENCE,
    )


def _write_configs(
    folder: Path,
    options: ExportOptions,
    unet_config: Mapping[str, Any],
    vae_config: Mapping[str, Any],
    schedule: NoiseSchedule,
) -> None:
    """The JSON files of optimum-intel's folder layout, for tools that know it; this program reads the manifest."""
    optimum = "optimum.intel.openvino.modeling_diffusion"
    index = {
        "_class_name": "TryOnPipeline",
        "scheduler": ["diffusers", "DDIMScheduler"],
        "unet": [optimum, "OVModelUnet"],
        "vae_decoder": [optimum, "OVModelVaeDecoder"],
        "vae_encoder": [optimum, "OVModelVaeEncoder"],
    }
    scheduler = {"_class_name": "DDIMScheduler", "clip_sample": False, **asdict(schedule)}
    dtype = {"dtype": options.precision, "input_info": None, "quantization_config": None, "save_onnx_model": False}
    files: dict[str, Mapping[str, Any]] = {
        "model_index.json": index,
        "openvino_config.json": dtype,
        "scheduler/scheduler_config.json": scheduler,
        "unet/config.json": unet_config,
        "vae_encoder/config.json": vae_config,
        "vae_decoder/config.json": vae_config,
    }
    for name, content in files.items():
        shown = {key: value for key, value in content.items() if key != "_name_or_path"}  # a path on someone's disk
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(shown, indent=2, sort_keys=True) + "\n", encoding="utf-8")
