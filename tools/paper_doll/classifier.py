"""A judge for the evaluation: which of the six patterns is on a piece of clothing?"""

import numpy as np
import torch
from torch import nn

from tools.paper_doll import checkpoint
from tools.paper_doll.data import draw_many, scene_of, to_tensor
from tools.paper_doll.patterns import PATTERNS

JUDGE_SEEDS = range(5_000_000, 5_006_000)


class PatternJudge(nn.Module):
    """(B, 4, 256, 192): a picture in [-1, 1], zero outside the garment, and the garment's area."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 4
        for out in (width, 2 * width, 3 * width, 4 * width):
            layers += [nn.Conv2d(channels, out, 3, stride=2, padding=1), nn.BatchNorm2d(out), nn.ReLU()]
            channels = out
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(2 * channels, len(PATTERNS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.features(nn.functional.avg_pool2d(x, 2))
        return self.head(torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1))


def judged(images: torch.Tensor, areas: np.ndarray) -> torch.Tensor:
    """The judge's input: images (B, 3, H, W) in [-1, 1], areas bool (B, H, W)."""
    area = torch.from_numpy(areas)[:, None].float()
    return torch.cat([images * area, area], dim=1)


def pattern_labels(seeds: range) -> torch.Tensor:
    return torch.tensor([PATTERNS.index(scene_of(seed).pattern) for seed in seeds])


def train_judge(epochs: int = 6, seed: int = 0) -> tuple[PatternJudge, int]:
    """The judge, and its training steps: on true figures, some blurred, all noisy, so that it judges the pattern."""
    persons, _, _, areas = draw_many(JUDGE_SEEDS)
    labels = pattern_labels(JUDGE_SEEDS)
    with checkpoint.seeded(seed):
        model = PatternJudge()
    steps = epochs * len(labels) // 32
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        index = torch.randint(len(labels), (32,), generator=generator)
        images = to_tensor(persons[index.numpy()])
        if step % 2:
            images = nn.functional.avg_pool2d(images, 3, stride=1, padding=1)
        images = images + 0.04 * torch.randn(images.shape, generator=generator)
        loss = nn.functional.cross_entropy(model(judged(images, areas[index.numpy()])), labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 200 == 199:
            checkpoint.say(f"judge: step {step + 1} of {steps}, loss {loss.item():.3f}")
    return model.eval(), steps
