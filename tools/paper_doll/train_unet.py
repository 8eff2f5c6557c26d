"""Trains the denoiser on cached latents.

The loss is the error of the clean latent, which is s_t^2 times that of v. Steps are mostly noisy
ones: there the garment is copied from the condition, which is what has to be learned.
"""

import copy
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from tools.paper_doll import checkpoint
from tools.paper_doll.autoencoder import PaperDollAutoencoder
from tools.paper_doll.data import UNSEEN, draw_many
from tools.paper_doll.latents import LatentCache, Latents, encode_pairs, load_autoencoder
from tools.paper_doll.muon import Muon, is_hidden
from tools.paper_doll.unet import PaperDollUNet, unet_input

PROBE_TIMESTEP = 951
BUCKETS = 4


@dataclass(frozen=True)
class UNetTraining:
    steps: int = 1_000_000  # until stopped
    batch: int = 24
    lr: float = 8e-4
    muon: bool = False  # for the matrices inside; the rest is AdamW's
    warmup: int = 300
    decay_from: int | None = None  # step at which the rate starts to fall to zero
    decay_steps: int = 3000
    ema: float = 0.999
    decay_ema: float = 0.98  # while the rate falls: its horizon must be well below decay_steps
    dropout: float = 0.1  # how often the garment is withheld, for guidance
    timestep_power: float = 0.6  # t = 999 u^power; below 1 favours noisy steps
    kept_weight: float = 0.15  # person cells outside the mask
    garment_weight: float = 0.1
    seed: int = 0
    checkpoint_seconds: float = 300
    probe_every: int = 1000
    refresh_every: int = 100

    @property
    def last_step(self) -> int:
        return self.steps if self.decay_from is None else self.decay_from + self.decay_steps

    def average_rate(self, step: int) -> float:
        return self.ema if self.decay_from is None or step < self.decay_from else self.decay_ema

    def learning_rate(self, step: int, started: int = 0) -> float:
        """`started` is the step at which the optimizer began from nothing."""
        rate = self.lr * min(1, (step - started + 1) / self.warmup)
        if self.decay_from is None or step < self.decay_from:
            return rate
        return rate * max(0.0, 1 - (step - self.decay_from) / self.decay_steps)


@dataclass(frozen=True)
class Noised:
    """A training batch after the forward process."""

    sample: torch.Tensor  # (B, 33, 2h, w), the network's input
    noisy: torch.Tensor  # (B, 16, 2h, w)
    clean: torch.Tensor  # (B, 16, 2h, w)
    timestep: torch.Tensor  # int64 (B,)
    weight: torch.Tensor  # (B, 1, 2h, w)


def add_noise(model: PaperDollUNet, x: Latents, options: UNetTraining, generator: torch.Generator) -> Noised:
    size = len(x)
    u = torch.rand(size, generator=generator)
    timestep = (999 * u**options.timestep_power).round().long()
    clean = torch.cat([x.person, x.garment], dim=2)
    a, s = model.rates(timestep)
    noisy = a * clean + s * torch.randn(clean.shape, generator=generator)
    keep = (torch.rand(size, 1, 1, 1, generator=generator) >= options.dropout).float()
    weight = options.kept_weight + (1 - options.kept_weight) * x.covered
    weight = torch.cat([weight, torch.full_like(weight, options.garment_weight)], dim=2)
    return Noised(unet_input(noisy, x.mask, x.masked, x.garment * keep), noisy, clean, timestep, weight)


def clean_error(model: PaperDollUNet, batch: Noised) -> torch.Tensor:
    """Squared error of the predicted clean latent, (B, 1, 2h, w)."""
    a, s = model.rates(batch.timestep)
    predicted = a * batch.noisy - s * model.velocity(batch.sample, batch.timestep)
    return ((predicted - batch.clean) ** 2).mean(dim=1, keepdim=True)


class Probe:
    """How much of unseen garments one look at almost pure noise brings over (R^2; 1 is perfect)."""

    def __init__(self, autoencoder: PaperDollAutoencoder, count: int = 32) -> None:
        persons, garments, masks, areas = draw_many(range(UNSEEN + 5000, UNSEEN + 5000 + count))
        latents = encode_pairs(autoencoder, persons, garments, masks)
        self.autoencoder = autoencoder
        self.latents = latents.take(torch.arange(count))
        self.areas = torch.from_numpy(areas)[:, None].float()
        self.noise = torch.randn(count, 16, 2 * 16, 12, generator=torch.Generator().manual_seed(1))

    @torch.inference_mode()
    def __call__(self, model: PaperDollUNet) -> str:
        x = self.latents
        timestep = torch.full((len(x),), PROBE_TIMESTEP)
        a, s = model.rates(timestep)
        noisy = a * torch.cat([x.person, x.garment], dim=2) + s * self.noise
        sample = unet_input(noisy, x.mask, x.masked, x.garment)
        clean = (a * noisy - s * model.velocity(sample, timestep))[:, :, : x.person.shape[2]]
        error = ((clean - x.person) ** 2 * x.covered).sum()
        mean = (x.person * x.covered).sum(dim=(0, 2, 3), keepdim=True) / x.covered.sum()
        latent = 1 - error / ((x.person - mean) ** 2 * x.covered).sum()
        predicted, true = (self._colour(latents) for latents in (clean, x.person))
        colour = 1 - ((predicted - true) ** 2).sum() / ((true - true.mean(dim=0)) ** 2).sum()
        return f"R2 of masked latents {latent:.3f}, of the mean garment colour {colour:.3f}"

    def _colour(self, latents: torch.Tensor) -> torch.Tensor:
        return (self.autoencoder.decode(latents) * self.areas).sum(dim=(2, 3)) / self.areas.sum(dim=(2, 3))


def make_optimizers(model: PaperDollUNet, options: UNetTraining) -> list[torch.optim.Optimizer]:
    inside = [p for name, p in model.named_parameters() if options.muon and is_hidden(name, p)]
    outside = [p for name, p in model.named_parameters() if not (options.muon and is_hidden(name, p))]
    adamw = torch.optim.AdamW(outside, lr=options.lr, weight_decay=1e-3, betas=(0.9, 0.99))
    return [adamw, Muon(inside, lr=options.lr, weight_decay=1e-3)] if inside else [adamw]


def train_unet(out: Path, options: UNetTraining) -> None:
    """Train until stopped or `options.last_step`; continues from `out/unet_training.pt`.

    Without that, from the averaged weights in `out/unet.pt`, the optimizer anew and warmed up; or from nothing.
    """
    path = out / "unet_training.pt"
    with checkpoint.seeded(options.seed):
        model = PaperDollUNet().to(memory_format=torch.channels_last)
    average = copy.deepcopy(model).requires_grad_(False)
    optimizers = make_optimizers(model, options)
    generator = torch.Generator().manual_seed(options.seed)
    step = started = 0
    if state := checkpoint.load(path):
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        generator.set_state(state["generator"])
        step, started = state["step"], state.get("started", 0)
    elif kept := checkpoint.load(out / "unet.pt"):
        model.load_state_dict(kept["model"])
        average.load_state_dict(kept["model"])
        step = started = kept["step"]
        generator.manual_seed(options.seed + step)
    cache, probe = LatentCache(out), Probe(load_autoencoder(out))
    parameters = sum(p.numel() for p in model.parameters())
    checkpoint.say(f"unet: {parameters / 1e6:.2f} M parameters, from step {step}, {len(cache)} scenes, {options}")

    def save() -> None:
        state = {"model": model.state_dict(), "average": average.state_dict()}
        state |= {"optimizers": [optimizer.state_dict() for optimizer in optimizers]}
        checkpoint.save(state | {"generator": generator.get_state(), "step": step, "started": started}, path)
        checkpoint.save({"model": average.state_dict(), "step": step}, out / "unet.pt")

    saved = since = time.monotonic()
    totals, counts = torch.zeros(BUCKETS), torch.zeros(BUCKETS)
    while step < options.last_step:
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = options.learning_rate(step, started)
        batch = add_noise(model, cache.batch(options.batch, generator), options, generator)
        error = clean_error(model, batch)
        loss = (batch.weight * error).sum() / batch.weight.sum()
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        step += 1
        with torch.no_grad():
            decay = min(options.average_rate(step), (1 + step) / (10 + step))
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
            inside = (batch.weight == 1).float()
            masked = (error * inside).sum(dim=(1, 2, 3)) / inside.sum(dim=(1, 2, 3))
            bucket = batch.timestep * BUCKETS // 1000
            totals.index_add_(0, bucket, masked)
            counts.index_add_(0, bucket, torch.ones_like(masked))
        if step % options.refresh_every == 0:
            cache.refresh()
        if step % 50 == 0:
            speed = 50 * options.batch / (time.monotonic() - since)
            errors = " ".join(f"{value:.3f}" for value in (totals / counts.clamp(min=1)).tolist())
            checkpoint.say(f"step {step} x0 error by t quarter: {errors}; {speed:.1f} samples/s, {len(cache)} scenes")
            totals.zero_()
            counts.zero_()
            since = time.monotonic()
        if step % options.probe_every == 0:
            checkpoint.say(f"step {step} probe: {probe(average)}")
            since = time.monotonic()
        if time.monotonic() - saved > options.checkpoint_seconds:
            save()
            saved = time.monotonic()
    save()
    checkpoint.say(f"done at step {step}: {probe(average)}")
