"""From a run directory to the bundle the project ships."""

import os
import tempfile
from pathlib import Path

import torch

from catvton_ov.bundle import FORMAT_VERSION, MANIFEST, PARTS, Bundle, Latent, Manifest, Source, record_files
from catvton_ov.export.convert import IR_NAME
from catvton_ov.export.int8 import quantize_bundle
from catvton_ov.export.options import QuantizationOptions
from catvton_ov.masking.parsers import COMPACT
from catvton_ov.samplers import NoiseSchedule
from tools.paper_doll import checkpoint
from tools.paper_doll.autoencoder import CHANNELS, FACTOR
from tools.paper_doll.engines import load_unet
from tools.paper_doll.examples import draw_examples
from tools.paper_doll.export import export_parser, export_parts, float16_cost
from tools.paper_doll.figures import SIZE
from tools.paper_doll.latents import encode_pairs, load_autoencoder
from tools.paper_doll.parser import load_parser
from tools.paper_doll.trials import EVALUATION_SEED, draw_trials

NAME = "paper_doll"
NOTICE = "This is a demonstration model for drawn figures, not for photos."
LICENCE = "Apache-2.0"
MASK_BLUR = 2  # drawn edges are sharp
CHECKED = 4  # pairs in the comparison with torch
MOST_ERROR = 0.01  # of the predicted clean latent, whose standard deviation is 1


def make_bundle(run: Path, out: Path, int8: bool = True) -> None:
    """Export the averaged UNet, the autoencoder and the parser of `run` to `out`, replacing what is there.

    Of float16 weights, or of INT8 ones made from these with the bundle's own examples.

    Made in a temporary folder beside `out` and put in place when whole.

    Raises:
        FileNotFoundError: `run` lacks a checkpoint.
        ValueError: the stored weights predict something else than the model does in torch.
    """
    unet, step = load_unet(run)
    autoencoder = load_autoencoder(run)
    out = out.absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
        folder = Path(temporary) / out.name
        export_parts(load_unet(run)[0], autoencoder, folder)
        export_parser(load_parser(run), folder)
        trials = draw_trials(range(EVALUATION_SEED, EVALUATION_SEED + CHECKED), swapped=False)
        x = encode_pairs(autoencoder, trials.persons, trials.garments, trials.masks).take(torch.arange(CHECKED))
        for t, (noise, clean) in float16_cost(unet, folder, x).items():
            checkpoint.say(
                f"float16 weights at t = {t}: error of the noise {noise:.1e}, of the clean latent {clean:.1e}"
            )
            if clean > MOST_ERROR:
                raise ValueError(f"the exported UNet differs from torch by {clean:.3f} at t = {t}")
        draw_examples(folder / "examples")
        (folder / MANIFEST).write_bytes(_manifest(folder, step).to_json())
        if int8:
            folder = quantize_bundle(folder, Path(temporary) / "int8" / out.name, QuantizationOptions())
        bundle = Bundle.open(folder)
        if out.exists():
            os.rename(out, Path(temporary) / "replaced")
        os.rename(folder, out)
    size = sum(record.bytes for record in bundle.manifest.files.values())
    checkpoint.say(f"{out}: step {step}, {len(bundle.manifest.files)} files, {size / 1e6:.1f} MB")


def _manifest(folder: Path, step: int) -> Manifest:
    return Manifest(
        format_version=FORMAT_VERSION,
        name=NAME,
        family="paper-doll",
        notice=NOTICE,
        precision="fp16",
        sizes=(SIZE,),
        size_multiple=2 * FACTOR,  # the UNet halves the latent once
        latent=Latent(channels=CHANNELS, downsample=FACTOR, scaling=1.0),
        schedule=NoiseSchedule(),
        mask_blur=MASK_BLUR,
        parts={part: f"{part}/{IR_NAME}" for part in (*PARTS, COMPACT)},
        files=record_files(folder),
        sources=(Source("recipe", "tools/paper_doll", f"step {step}", LICENCE),),
        licence=LICENCE,
    )
