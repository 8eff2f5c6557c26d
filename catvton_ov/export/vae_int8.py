"""The VAE in INT8, as far as pictures come through as they did.

On a CPU both halves are convolutions almost alone, and at few denoising steps they take a third of a picture's time;
INT8 halves theirs. Each half takes the quickest form that costs no more than its price in reconstructed pictures.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openvino as ov

from catvton_ov.bundle import Bundle
from catvton_ov.errors import ExportError
from catvton_ov.export.quantize import compress, quantize_convolutions, write_model
from catvton_ov.metrics import psnr
from catvton_ov.runtime import Array, Network, Runtime

Form = Literal["int8", "weights"]
PRICES: Mapping[Form, float] = {"int8": 0.3, "weights": 0.05}  # dB of a reconstruction; the quickest form first
INPUTS = {"vae_encoder": "picture", "vae_decoder": "latent"}


def quantize_vae(
    bundle: Bundle, runtime: Runtime, pictures: Sequence[Array], folder: Path, forms: Sequence[Form], overflow_fix: bool
) -> dict[str, Any]:
    """Put both halves into `folder`, each in the first of `forms` that does not cost too much, or as it was.

    Args:
        bundle: with the VAE in float.
        pictures: what ranges are learned from and what comes through is judged by; (1, 3, H, W) in [-1, 1].
        folder: of the new bundle, which holds a copy of the float VAE.

    Returns:
        For the manifest: form and PSNR (dB, of pictures through both halves) by part, that of float halves and of
        both as they are now; a form that NNCF cannot make says why.

    Raises:
        ExportError: a half cannot be written.
    """
    files = {part: bundle.part(part) for part in INPUTS}
    networks = {part: Network(runtime, lambda xml=xml: xml) for part, xml in files.items()}  # type: ignore[misc]
    latents = [networks["vae_encoder"](picture=picture) for picture in pictures]
    before = _reconstruction(networks, pictures)
    record: dict[str, Any] = {"psnr_float": round(before, 3)}
    seen = {"vae_encoder": pictures, "vae_decoder": latents}
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        for part, name in INPUTS.items():
            record[part] = {"form": "float"}
            for form in forms:
                xml = Path(temporary) / form / bundle.manifest.parts[part]
                model = ov.Core().read_model(files[part])
                try:
                    if form == "int8":
                        model = quantize_convolutions(model, [{name: value} for value in seen[part]], overflow_fix)
                    else:
                        model = compress(model)
                except ExportError as error:
                    record[part][f"failed_{form}"] = str(error)
                    continue
                write_model(model, xml)
                tried = {**networks, part: Network(runtime, lambda xml=xml: xml)}  # type: ignore[misc]
                after = _reconstruction(tried, pictures)
                record[part][f"psnr_{form}"] = round(after, 3)
                if before - after <= PRICES[form]:
                    record[part]["form"] = form
                    for suffix in (".xml", ".bin"):
                        target = (folder / bundle.manifest.parts[part]).with_suffix(suffix)
                        xml.with_suffix(suffix).replace(target)
                    break
    made = {part: folder / bundle.manifest.parts[part] for part in INPUTS}
    both = {part: Network(runtime, lambda xml=xml: xml) for part, xml in made.items()}  # type: ignore[misc]
    record["psnr"] = round(_reconstruction(both, pictures), 3)
    return record


def _reconstruction(networks: Mapping[str, Network], pictures: Sequence[Array]) -> float:
    """Mean PSNR of pictures after both halves; they are released again."""
    encoder, decoder = networks["vae_encoder"], networks["vae_decoder"]
    latents = [encoder(picture=picture) for picture in pictures]
    encoder.release()
    through = [decoder(latent=latent) for latent in latents]
    decoder.release()
    return float(np.mean([psnr(a, b, peak=2.0) for a, b in zip(through, pictures, strict=True)]))
