"""Trains the compact parser on drawn figures and their true labels, each seen once."""

import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import nn

from catvton_ov.images import Frame
from catvton_ov.masking.compact import CLOTHES_CLASSES, DENSEPOSE_CLASSES, SIZE
from tools.paper_doll import checkpoint
from tools.paper_doll.data import UNSEEN, scene_of, to_tensor
from tools.paper_doll.evaluate_parser import in_torch, mask_ious
from tools.paper_doll.examples import SIZE as EXAMPLE_SIZE
from tools.paper_doll.figures import draw
from tools.paper_doll.muon import Muon
from tools.paper_doll.parser import PaperDollParser, to_cells

FIRST_SEED = 6_000_000
PROBED = range(UNSEEN + 600_000, UNSEEN + 600_016)
OUTSIDE = 255  # of the photo: no label is asked for

# Class numbers by DensePose and by LIP label; a label that no figure has is out of range.
BODY = np.full(25, 254, np.uint8)
BODY[list(DENSEPOSE_CLASSES)] = range(len(DENSEPOSE_CLASSES))
CLOTHES = np.full(20, 254, np.uint8)
CLOTHES[[lip for lip, _ in CLOTHES_CLASSES]] = range(len(CLOTHES_CLASSES))

# What a training picture is that is not a figure drawn at the network's size, and how often among those.
KINDS = {"example": 0.25, "framed": 0.33, "cut": 0.17, "garment": 0.08, "wall": 0.08, "plain": 0.09}

Sample = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class ParserTraining:
    steps: int = 2000
    batch: int = 6
    lr: float = 4e-3
    weight_decay: float = 1e-4
    drawn: float = 0.4  # the share of figures drawn at the network's size
    seed: int = 0
    checkpoint_seconds: float = 180
    probe_every: int = 250


def sample(seed: int, drawn: float = ParserTraining.drawn) -> Sample:
    """A picture uint8 (256, 192, 3) and its classes uint8 (256, 192) of body and clothes; OUTSIDE where none count.

    Most are figures drawn at the network's size. Others come to it as photos do: drawn larger, as they are or
    with more or less around them, or cut at the frame. The rest shows a flat garment, just the wall, or nothing.
    """
    rng = np.random.default_rng((seed, 2))
    kind = "drawn" if rng.random() < drawn else rng.choice(list(KINDS), p=list(KINDS.values()))
    figure = draw(scene_of(seed), EXAMPLE_SIZE if kind in ("example", "framed", "cut") else SIZE)
    picture, body, clothes = figure.person, BODY[figure.densepose], CLOTHES[figure.lip]
    if kind == "garment":
        picture, body, clothes = figure.garment, np.zeros_like(body), np.zeros_like(clothes)
    elif kind == "wall":  # no arm reaches the first column
        picture = picture[:, :1].repeat(picture.shape[1], axis=1)
        body, clothes = np.zeros_like(body), np.zeros_like(clothes)
    elif kind == "framed":
        rows, columns = (_window(rng, length) for length in body.shape)
        picture, body, clothes = (each[rows][:, columns] for each in (picture, body, clothes))
    elif kind == "plain":  # one colour from black to white, or a shade from one to another
        colours = rng.uniform(0, 255, (2, 1, 3))
        if rng.random() < 0.5:
            colours[:] = colours[0, 0, 0]
        shade = np.linspace(colours[0], colours[1], len(body)) * np.ones((1, body.shape[1], 1))
        picture, body, clothes = shade.astype(np.uint8), np.zeros_like(body), np.zeros_like(clothes)
    elif kind == "cut":
        rows, columns = (_part(rng, length) for length in body.shape)
        picture, body, clothes = (each[rows, columns] for each in (picture, body, clothes))
    if rng.random() < 0.3:
        picture = _worn(rng, picture)
    return _fitted(picture, body, clothes)


def _window(rng: np.random.Generator, length: int) -> np.ndarray:
    """Indices of 0.8 to 1.9 times `length` about its middle; beyond the ends, the ends again."""
    extent = round(length * np.exp(rng.uniform(np.log(0.8), np.log(1.9))))
    start = round((length - extent) * rng.uniform(0.2, 0.8) + length * rng.uniform(-0.05, 0.05))
    return np.arange(start, start + extent).clip(0, length - 1)


def _part(rng: np.random.Generator, length: int) -> slice:
    """Half of `length` or more of it."""
    extent = round(length * rng.uniform(0.5, 1))
    start = int(rng.integers(0, length - extent + 1))
    return slice(start, start + extent)


def _worn(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Another light, grain, and the traces of JPEG."""
    light = rng.uniform(0.92, 1.08, 3) * picture + rng.uniform(-8, 8)
    grain = rng.normal(0, rng.uniform(0, 4), picture.shape)
    noisy = (light + grain).clip(0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        return noisy
    _, file = cv2.imencode(".jpg", noisy[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(60, 96))])
    return cv2.imdecode(file, cv2.IMREAD_COLOR)[..., ::-1]


def _fitted(picture: np.ndarray, body: np.ndarray, clothes: np.ndarray) -> Sample:
    """As the network sees them; the labels by the nearest pixel."""
    photo = Image.fromarray(picture)
    frame = Frame.whole(photo.size, SIZE)
    left, top, right, bottom = frame.place
    labels = []
    for classes in (body, clothes):
        fitted = np.full(SIZE[::-1], OUTSIDE, np.uint8)
        nearest = Image.fromarray(classes).resize((right - left, bottom - top), Image.Resampling.NEAREST)
        fitted[top:bottom, left:right] = np.asarray(nearest)
        labels.append(fitted)
    return np.asarray(frame.cut(photo)), labels[0], labels[1]


def learning_rate(step: int, options: ParserTraining, started: int = 0) -> float:
    """Warm-up, constant, then linear to zero over the last 60 %; the optimizer began from nothing at `started`."""
    return options.lr * min(1, (step - started + 1) / 60, (options.steps - step) / (0.6 * options.steps))


def optimizers_of(model: PaperDollParser, options: ParserTraining) -> list[torch.optim.Optimizer]:
    """Muon for the kernels and matrices inside; AdamW for the first and last layers, biases and norms."""
    inside, outside = [], []
    for name, parameter in model.named_parameters():
        hidden = parameter.ndim >= 2 and not name.startswith(("stem", "heads"))
        (inside if hidden else outside).append(parameter)
    settings = {"lr": options.lr, "weight_decay": options.weight_decay}
    return [Muon(inside, **settings), torch.optim.AdamW(outside, **settings)]


def loss_of(model: PaperDollParser, samples: list[Sample]) -> torch.Tensor:
    """Mean cross-entropy of body, of clothes, and of which clothes there are."""
    pictures, *labels = (np.stack(column) for column in zip(*samples, strict=True))
    cells, present = model.cells(to_tensor(pictures).contiguous(memory_format=torch.channels_last))
    there = (labels[1].reshape(len(samples), -1, 1) == np.arange(len(CLOTHES_CLASSES))).any(axis=1)
    losses = [nn.functional.binary_cross_entropy_with_logits(present, torch.from_numpy(there).float())]
    for logits, classes in zip(cells, labels, strict=True):
        wanted = to_cells(torch.from_numpy(classes)).reshape(-1).long()
        losses.append(nn.functional.cross_entropy(logits.reshape(len(wanted), -1), wanted, ignore_index=OUTSIDE))
    return torch.stack(losses).sum()


def probe(model: PaperDollParser) -> str:
    """Mean IoU of masks of unseen figures by category."""
    model.eval()
    ious = mask_ious(in_torch(model), PROBED)
    model.train()
    return ", ".join(f"{category} {values.mean():.3f}" for category, values in ious.items())


def train_parser(out: Path, options: ParserTraining) -> None:
    """Train to `options.steps`; continues from `out/parser_training.pt` where it exists.

    Without that, from the weights in `out/parser.pt`, the optimizer anew and warmed up; or from nothing.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / "parser_training.pt"
    with checkpoint.seeded(options.seed):
        model = PaperDollParser().to(memory_format=torch.channels_last)
    optimizers = optimizers_of(model, options)
    step = started = 0
    if state := checkpoint.load(path):
        model.load_state_dict(state["model"])
        for optimizer, its in zip(optimizers, state.get("optimizers", ()), strict="optimizers" in state):
            optimizer.load_state_dict(its)
        step, started = state["step"], state.get("started", 0)
    elif kept := checkpoint.load(out / "parser.pt"):
        model.load_state_dict(kept["model"])
        step = started = kept["step"]
    checkpoint.say(f"parser: {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, from step {step}")

    def save() -> None:
        state = {"model": model.state_dict(), "optimizers": [each.state_dict() for each in optimizers]}
        checkpoint.save(state | {"step": step, "started": started}, path)

    saved, since, losses = time.monotonic(), time.monotonic(), []
    while step < options.steps:
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, options, started)
        first = FIRST_SEED + step * options.batch
        loss = loss_of(model, [sample(seed, options.drawn) for seed in range(first, first + options.batch)])
        model.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss.item())
        step += 1
        if step % 20 == 0:
            seconds = (time.monotonic() - since) / len(losses)
            checkpoint.say(f"step {step} loss {np.mean(losses):.4f}, {seconds:.2f} s/step")
            since, losses = time.monotonic(), []
        if step % options.probe_every == 0:
            checkpoint.say(f"step {step} IoU: {probe(model)}")
            since = time.monotonic()
        if time.monotonic() - saved > options.checkpoint_seconds:
            save()
            saved = time.monotonic()
    save()
    checkpoint.save({"model": model.state_dict(), "step": step}, out / "parser.pt")
    checkpoint.say(f"done: {probe(model)}")
