"""CatVTON (arXiv 2407.15886), figure 2, on OpenVINO.

::

    person x (1 - mask) --> VAE encoder --+
                                          +--> above each other --+
    garment --------------> VAE encoder --+                       |
    mask --> latent size, above zeros ----------------------------+--> UNet, step by step --+
    noise --------------------------------------------------------+                         |
    result <-- pasted back through the mask <-- VAE decoder <-- the person's half of it <---+
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from catvton_ov.bundle import Bundle
from catvton_ov.errors import ImageError, MaskError
from catvton_ov.images import Frame, blur_mask, fit_garment, to_array, to_picture
from catvton_ov.machine import cores
from catvton_ov.options import Preview, TryOnOptions, TryOnResult, TryOnStep
from catvton_ov.pictures.reading import Size, as_mask, as_rgb
from catvton_ov.preview import RoughDecoder
from catvton_ov.runtime import Network, Runtime, RuntimeOptions
from catvton_ov.samplers import Sampler, Spacing, make_sampler
from catvton_ov.shortcuts import Shortcuts, plan_passes
from catvton_ov.sources import open_bundle
from catvton_ov.stopwatch import Stopwatch
from catvton_ov.unet import UNet

ENOUGH_CORES = 4  # on two, encoding and compiling take longer at once than one after the other
LARGE = 400_000  # pixels; see TryOnPipeline.spare
BICUBIC = Image.Resampling.BICUBIC
Array = npt.NDArray[np.float32]
Picture = Image.Image | npt.NDArray[np.uint8]
DrawNoise = Callable[[tuple[int, ...]], Array]
OnStep = Callable[[Array, Array, Array], None]
Encode = Callable[[Array], Array]  # (1, 3, H, W) float32 in [-1, 1] -> its scaled latent (1, C, h, w)


class Condition(NamedTuple):
    """What the UNet is told besides the noisy latent."""

    mask: Array  # (1, 1, 2h, w): 1 where the person is repainted; the garment's half is 0
    latent: Array  # (1, C, 2h, w): the masked person above the garment
    pictures: Array  # (1, 3, 2H, W): what the latent was encoded from


class Denoised(NamedTuple):
    latents: Array  # (1, C, 2h, w): the person above the garment, one step cleaner
    clean: Array  # the current estimate of the clean latent, same shape


class TryOnPipeline:
    """A person, a garment and a mask in; the person wearing the garment out.

    For one thread at a time: every part keeps the compiled model of its last size.
    """

    def __init__(self, bundle: Bundle, runtime: Runtime) -> None:
        self.bundle = bundle
        self.unet = UNet(runtime, lambda: bundle.part("unet"))
        self.vae_encoder = Network(runtime, lambda: bundle.part("vae_encoder"))
        self.vae_decoder = Network(runtime, lambda: bundle.part("vae_decoder"))

    @classmethod
    def load(cls, source: str | Path, device: str = "CPU", **runtime: Any) -> TryOnPipeline:
        """Read and check a bundle's manifest; its parts are compiled when they are first needed.

        Args:
            source: an existing folder, the name of the bundled model ("paper_doll"), or a Hub repository
                "owner/name[@revision]"; tried in this order.
            device: what OpenVINO lists on this machine, or "AUTO".
            runtime: the other fields of `RuntimeOptions`: threads, precision, cache_dir.

        Raises:
            BundleError: no usable bundle there.
            OptionsError: an unknown device (the message names the available ones) or a bad runtime option.
        """
        checked = Runtime(RuntimeOptions(device=device, **runtime))
        return cls(open_bundle(source), checked)

    def __call__(
        self, person: Image.Image, garment: Image.Image, mask: Image.Image, options: TryOnOptions | None = None
    ) -> TryOnResult:
        """Try the garment on; arguments and errors are those of `steps`."""
        *_, result = self.steps(person, garment, mask, options)
        assert isinstance(result, TryOnResult)
        return result

    def steps(
        self,
        person: Image.Image,
        garment: Image.Image,
        mask: Image.Image,
        options: TryOnOptions | None = None,
        preview_every: int = 0,
        preview_kind: Preview = "decoded",
        encode: Encode | None = None,
    ) -> Iterator[TryOnStep | TryOnResult]:
        """Try the garment on: a `TryOnStep` after every denoising step, and the `TryOnResult` last.

        Closing the generator stops the work.

        Args:
            person: any size and mode; EXIF orientation is honoured, transparency becomes white.
            garment: likewise; it is fitted and padded with white once.
            mask: of the (upright) person photo's size; white is repainted.
            options: see `TryOnOptions`.
            preview_every: show the current estimate every so many steps; 0 for never.
            preview_kind: "decoded", each at the price of one VAE decoding, or "rough" and almost free (see preview.py).
            encode: called instead of `encode` for the masked person and for the garment: what remembers latents.

        Raises:
            ImageError, MaskError, OptionsError: what cannot be used, before any work is done.
            BundleDamagedError, DeviceError: a part cannot be loaded or run.
        """
        options = options or TryOnOptions()
        watch = Stopwatch()
        with watch("prepare"):
            size = self.bundle.manifest.work_size(options.size)
            schedule = self.bundle.manifest.schedule
            sampler = make_sampler(options.sampler, schedule, options.steps, options.eta, options.spacing)
            seed = secrets.randbelow(2**32) if options.seed is None else options.seed
            photo = as_rgb(person, "photo of the person")
            photo_mask = as_mask(mask, photo.size)
            frame = Frame.of(options.framing, photo_mask, size)
            blur = self.bundle.manifest.mask_blur if options.blur is None else options.blur
            soft_mask = blur_mask(frame.cut_mask(photo_mask), blur)
            if np.asarray(soft_mask).max() < 128:
                raise MaskError("The painted area is too small for the model to repaint; paint a larger one.")
            blend = soft_mask if options.repaint else Image.new("L", size, 255)
            seen = frame.cut(photo)
            flat = fit_garment(as_rgb(garment, "photo of the garment"), size)
        with watch("encode"), self._compiling_unet(size, options.shortcuts):
            condition = self._condition(encode or self.encode, seen, flat, soft_mask)
        self.spare(self.vae_encoder, size)
        rough = None
        if preview_every and preview_kind == "rough":
            rough = RoughDecoder(condition.pictures, condition.latent)
        denoising = self._denoise(condition, sampler, options.guidance_scale, options.shortcuts, _unit_normal(seed))
        total = options.steps
        for number in range(1, total + 1):
            before = watch.seconds.get("denoise", 0.0)
            with watch("denoise"):
                latents, clean = next(denoising)
            preview = None
            if preview_every and number % preview_every == 0 and number < total:
                with watch("preview"):
                    estimate = self._decode(clean) if rough is None else rough(_person_half(clean))
                    preview = frame.paste_back(photo, to_picture(estimate).resize(size, BICUBIC), blend)
            yield TryOnStep(number, total, watch.seconds["denoise"] - before, preview)
        with watch("decode"):
            picture = to_picture(self._decode(latents))
        self.spare(self.vae_decoder, size)
        with watch("paste"):
            result = frame.paste_back(photo, picture, blend)
        yield TryOnResult(result, seed, watch.seconds)

    def generate(
        self,
        person: Picture,
        garment: Picture,
        mask: Picture,
        *,
        steps: int,
        guidance_scale: float,
        sampler: str,
        eta: float,
        noise: DrawNoise,
        spacing: Spacing | None = None,
        shortcuts: Shortcuts = Shortcuts(),
        on_step: OnStep | None = None,
    ) -> Array:
        """The core, on pictures already at model size.

        Args:
            person: (H, W) RGB, 8 bits.
            garment: likewise, already padded.
            mask: (H, W), 8 bits, soft; repainted from 0.5 up.
            steps: denoising steps.
            guidance_scale: up to 1 there is no unconditional pass.
            sampler: "ddim" or "dpmpp_2m".
            eta: 0..1, DDIM only.
            noise: `noise(shape)` gives unit normal float32; called once for the initial latent and once for
                every step that needs it.
            spacing: of the timesteps; None is the model's own.
            shortcuts: what to leave out.
            on_step: called after every step with the UNet's input (B, 2C+1, 2h, w), its output (B, C, 2h, w),
                and the latents (1, C, 2h, w); B is 2 in guided steps, unconditional first.

        Returns:
            (1, 3, H, W) float32, nominally in [-1, 1]: the decoded person half, not yet pasted back.

        Raises:
            OptionsError, ImageError, MaskError: before any work is done.
        """
        TryOnOptions(guidance_scale=guidance_scale)  # checks it
        moves = make_sampler(sampler, self.bundle.manifest.schedule, steps, eta, spacing)
        pictures = [_pil(person).convert("RGB"), _pil(garment).convert("RGB"), _pil(mask).convert("L")]
        self.bundle.manifest.work_size(pictures[0].size)
        if len({picture.size for picture in pictures}) > 1:
            sizes = ", ".join(f"{w}x{h}" for w, h in (picture.size for picture in pictures))
            raise ImageError(f"person, garment and mask must have one size here; got {sizes}.")
        with self._compiling_unet(pictures[0].size, shortcuts):
            condition = self._condition(self.encode, *pictures)
        *_, last = self._denoise(condition, moves, guidance_scale, shortcuts, noise, on_step)
        return self._decode(last.latents)

    def encode(self, picture: Array) -> Array:
        """The scaled latent (1, C, h, w) of a picture (1, 3, H, W), float32 in [-1, 1]."""
        return self.vae_encoder(picture=picture)

    def spare(self, half: Network, size: Size) -> None:
        """Give the memory of a half of the VAE back after its use, where pictures are large.

        Compiling it again takes a second or two whatever the size; its memory grows with the pixels, and the UNet needs
        most of what there is.
        """
        if size[0] * size[1] >= LARGE:
            half.release()

    def _condition(
        self, encode: Encode, person: Image.Image, garment: Image.Image, soft_mask: Image.Image
    ) -> Condition:
        """Encode the masked person and the garment and join them along height (section 3.2 of the paper)."""
        mask = np.asarray(soft_mask)[None, None] >= 127.5
        masked_person, whole_garment = to_array(person) * ~mask, to_array(garment)
        person_latent = encode(masked_person)
        garment_latent = encode(whole_garment)
        stride = self.bundle.manifest.latent.downsample
        person_mask = mask[:, :, ::stride, ::stride].astype(np.float32)  # nearest by floor
        return Condition(
            mask=np.concatenate([person_mask, np.zeros_like(person_mask)], axis=2),
            latent=np.concatenate([person_latent, garment_latent], axis=2),
            pictures=np.concatenate([masked_person, whole_garment], axis=2),
        )

    @contextmanager
    def _compiling_unet(self, size: Size, shortcuts: Shortcuts) -> Iterator[None]:
        """Have the UNet compiled: while something else is done, or after it where there are not the cores for both."""
        latent = self.bundle.manifest.latent
        rows, columns = size[1] // latent.downsample, size[0] // latent.downsample
        sample = (1, 2 * latent.channels + 1, 2 * rows, columns)
        self.unet.take(shortcuts)
        if cores() < ENOUGH_CORES:
            yield
            self.unet.prepare(sample)
            return
        with ThreadPoolExecutor(1) as thread:
            compiling = thread.submit(self.unet.prepare, sample)
            yield
            compiling.result()

    def _denoise(
        self,
        condition: Condition,
        sampler: Sampler,
        guidance_scale: float,
        shortcuts: Shortcuts,
        noise: DrawNoise,
        on_step: OnStep | None = None,
    ) -> Iterator[Denoised]:
        """From noise to the clean latent, one step a turn.

        Guidance (section 3.3): the unconditional pass sees a zeroed garment latent. Two passes of batch 1 take
        the time of one of batch 2 and half its memory.
        """
        inputs = {"conditional": _unet_input(condition), "unconditional": _unet_input(_without_garment(condition))}
        channels = condition.latent.shape[1]
        latents = noise(condition.latent.shape)
        passes = self.unet.passes()
        plan = plan_passes(len(sampler.timesteps), guidance_scale, shortcuts)
        for index, (t, planned) in enumerate(zip(sampler.timesteps, plan, strict=True)):
            timestep = np.array([t], dtype=np.int64)
            predictions = []
            for each in planned:
                inputs[each.branch][:, :channels] = latents
                predictions.append(passes(each, inputs[each.branch], timestep))
            noise_pred = predictions[-1]
            if len(predictions) == 2:
                unconditional, conditional = predictions
                noise_pred = unconditional + np.float32(guidance_scale) * (conditional - unconditional)
            fresh = noise(latents.shape) if sampler.draws_noise else None
            latents, clean = sampler.step(index, latents, noise_pred, fresh)
            if on_step is not None:
                on_step(np.concatenate([inputs[each.branch] for each in planned]), np.concatenate(predictions), latents)
            yield Denoised(latents, clean)

    def _decode(self, latents: Array) -> Array:
        """The picture (1, 3, H, W) of the person's half."""
        return self.vae_decoder(latent=_person_half(latents))


def _unet_input(condition: Condition) -> Array:
    """(1, 2C+1, 2h, w): room for the noisy latent, then the mask, then the condition's latent."""
    return np.concatenate([np.zeros_like(condition.latent), condition.mask, condition.latent], axis=1)


def _without_garment(condition: Condition) -> Condition:
    latent = condition.latent.copy()
    latent[:, :, latent.shape[2] // 2 :] = 0
    return condition._replace(latent=latent)


def _person_half(latents: Array) -> Array:
    return np.ascontiguousarray(latents[:, :, : latents.shape[2] // 2])


def _unit_normal(seed: int) -> DrawNoise:
    rng = np.random.default_rng(seed)
    return lambda shape: rng.standard_normal(shape, dtype=np.float32)


def _pil(picture: Picture) -> Image.Image:
    return picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
