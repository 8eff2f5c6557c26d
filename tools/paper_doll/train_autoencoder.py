"""Trains the autoencoder on crops of persons, masked persons and garments."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tools.paper_doll import checkpoint
from tools.paper_doll.autoencoder import PaperDollAutoencoder, masked_psnr
from tools.paper_doll.data import UNSEEN, draw_many, masked_person, to_tensor
from tools.paper_doll.figures import PAPER


@dataclass(frozen=True)
class AutoencoderOptions:
    scenes: int = 3000
    steps: int = 4000
    batch: int = 12
    crop: tuple[int, int] = (96, 128)  # width, height
    lr: float = 6e-4
    noise: float = 0.1  # standard deviations of the latent
    seed: int = 0
    checkpoint_seconds: float = 180


class Crops:
    """Random crops: half persons, a quarter masked persons, a quarter garments."""

    def __init__(self, scenes: int) -> None:
        self.persons, self.garments, self.masks, self.areas = draw_many(range(scenes))

    def batch(self, rng: np.random.Generator, size: int, crop: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (B, 3, h, w) in [-1, 1] and loss weights (B, 1, h, w)."""
        images, weights = [], []
        for kind in rng.integers(0, 4, size):
            i = rng.integers(len(self.persons))
            x = rng.integers(0, self.persons.shape[2] - crop[0] + 1)
            y = rng.integers(0, self.persons.shape[1] - crop[1] + 1)
            box = np.s_[y : y + crop[1], x : x + crop[0]]
            if kind == 3:
                images.append(self.garments[i][box])
                weights.append(1 + 2.0 * (images[-1] != PAPER).any(axis=2))
                continue
            image = to_tensor(self.persons[i][box][None])
            if kind == 2:
                image = masked_person(image, self.masks[i][box][None])
            images.append(image)
            weights.append(1 + 2.0 * self.areas[i][box] * (kind < 2))
        stacked = torch.cat([to_tensor(image[None]) if isinstance(image, np.ndarray) else image for image in images])
        return stacked, torch.from_numpy(np.stack(weights)).float()[:, None]


def learning_rate(step: int, options: AutoencoderOptions) -> float:
    """Warm-up, constant, then linear to zero over the last 40 %."""
    return options.lr * min(1, (step + 1) / 200, (options.steps - step) / (0.4 * options.steps))


@torch.no_grad()
def quality(model: PaperDollAutoencoder, count: int = 32) -> tuple[float, float]:
    """Mean PSNR of unseen whole persons under the mask, and of garments on their own area."""
    persons, garments, masks, _ = draw_many(range(UNSEEN, UNSEEN + count))
    worn, flat = to_tensor(persons), to_tensor(garments)
    mask = torch.from_numpy(masks >= 128)[:, None]
    area = torch.from_numpy((garments != PAPER).any(axis=3))[:, None]
    worn_psnr = masked_psnr(model.decode(model.encode(worn)), worn, mask)
    flat_psnr = masked_psnr(model.decode(model.encode(flat)), flat, area)
    return worn_psnr.mean().item(), flat_psnr.mean().item()


def train_autoencoder(out: Path, options: AutoencoderOptions) -> None:
    """Train to `options.steps`; continues from `out/autoencoder_training.pt` where it exists."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "autoencoder_training.pt"
    with checkpoint.seeded(options.seed):
        model = PaperDollAutoencoder().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=1e-4)
    step = 0
    if state := checkpoint.load(path):
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    parameters = sum(p.numel() for p in model.parameters())
    checkpoint.say(f"autoencoder: {parameters / 1e6:.2f} M parameters, from step {step}; drawing scenes")
    crops = Crops(options.scenes)
    rng, generator = np.random.default_rng((options.seed, step)), torch.Generator().manual_seed(options.seed + step)
    checkpoint.say("training")

    def save() -> None:
        checkpoint.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, path)

    usual_norm = 1.0
    saved, since, losses = time.monotonic(), time.monotonic(), []
    while step < options.steps:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, options)
        images, weights = crops.batch(rng, options.batch, options.crop)
        images = images.contiguous(memory_format=torch.channels_last)
        restored = model.noisy_reconstruction(images, options.noise, generator)
        loss = (weights * (restored - images) ** 2).sum() / (3 * weights.sum())
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 3 * usual_norm).item()
        if norm < 20 * usual_norm:  # without normalisation layers one bad batch can undo a thousand
            optimizer.step()
        usual_norm = 0.98 * usual_norm + 0.02 * min(norm, 3 * usual_norm)
        losses.append(loss.item())
        step += 1
        if step % 50 == 0:
            seconds = (time.monotonic() - since) / 50
            psnr = -10 * np.log10(np.mean(losses) / 4)
            checkpoint.say(f"step {step} loss {np.mean(losses):.5f} ({psnr:.2f} dB) {seconds:.3f} s/step")
            since, losses = time.monotonic(), []
        if step % 500 == 0:
            worn, flat = quality(model)
            checkpoint.say(f"step {step} unseen: {worn:.2f} dB under the mask, {flat:.2f} dB on flat garments")
            since = time.monotonic()
        if time.monotonic() - saved > options.checkpoint_seconds:
            save()
            saved = time.monotonic()
    save()
    persons, garments, masks, _ = (part[:150] for part in (crops.persons, crops.garments, crops.masks, crops.areas))
    worn = to_tensor(persons)
    model.calibrate(torch.cat([worn, masked_person(worn, masks), to_tensor(garments)]))
    worn_psnr, flat_psnr = quality(model, 64)
    checkpoint.save({"model": model.state_dict(), "psnr": worn_psnr, "step": step}, out / "autoencoder.pt")
    checkpoint.say(f"done: {worn_psnr:.2f} dB under the mask, {flat_psnr:.2f} dB on flat garments (64 unseen)")
