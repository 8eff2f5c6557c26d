"""The quality bar of the paper-doll model, on pairs never trained on.

python -m tools.paper_doll.evaluate --out RUN                            the checkpoint of a run, in torch
python -m tools.paper_doll.evaluate --out RUN --bundle assets/paper_doll   a bundle, as the app runs it
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from tools.paper_doll import checkpoint
from tools.paper_doll.autoencoder import masked_psnr
from tools.paper_doll.classifier import PatternJudge, judged, train_judge
from tools.paper_doll.data import to_tensor
from tools.paper_doll.engines import BundleEngine, Engine, TorchEngine
from tools.paper_doll.sampling import Sampling
from tools.paper_doll.trials import EVALUATION_SEED, Trials, draw_trials, to_uint8


@dataclass(frozen=True)
class Report:
    """What the bar is about."""

    colour: float  # median CIE76 distance of the mean garment colours; <= 10
    pattern: float  # share of patterns recognised on results; >= 0.75
    pattern_true: float  # and on the true figures; >= 0.95
    psnr: float  # dB under the mask, mean over images; >= psnr_autoencoder - 3
    psnr_autoencoder: float  # of the true figures through the autoencoder; >= 24

    @property
    def passes(self) -> bool:
        seen = self.colour <= 10 and self.pattern >= 0.75 and self.psnr >= self.psnr_autoencoder - 3
        return seen and self.pattern_true >= 0.95 and self.psnr_autoencoder >= 24

    def row(self) -> str:
        """The cells of a Markdown table's row."""
        shares = f"{self.pattern:.0%} | {self.pattern_true:.0%}"
        return f"{self.colour:.1f} | {shares} | {self.psnr:.2f} | {self.psnr_autoencoder:.2f}"


def mean_lab(images: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """CIE Lab of the mean colour over each area: (N, 3)."""
    means = np.stack([image[area].mean(axis=0) for image, area in zip(images, areas, strict=True)])
    return cv2.cvtColor((means[None] / 255).astype(np.float32), cv2.COLOR_RGB2LAB)[0]


def load_judge(run: Path) -> PatternJudge:
    """The judge; trained at the first call."""
    path = run / "judge.pt"
    state = checkpoint.load(path)
    if state is None:
        trained, steps = train_judge()
        state = {"model": trained.state_dict(), "step": steps}
        checkpoint.save(state, path)
    model = PatternJudge().eval().requires_grad_(False)
    model.load_state_dict(state["model"])
    return model


@torch.inference_mode()
def measure(engine: Engine, trials: Trials, judge: PatternJudge, sampling: Sampling) -> Report:
    """Try on and compare with the true pictures; results are pasted back through the mask."""
    truths, inside = to_tensor(trials.truths), trials.inside
    results = torch.where(inside, engine.try_on(trials, sampling), to_tensor(trials.persons))
    reconstructed = engine.reconstruct(trials.truths)
    labels = torch.from_numpy(trials.labels)
    distance = mean_lab(to_uint8(results), trials.areas) - mean_lab(trials.truths, trials.areas)
    return Report(
        colour=float(np.median(np.linalg.norm(distance, axis=1))),
        pattern=_recognised(judge, results, trials.areas, labels),
        pattern_true=_recognised(judge, truths, trials.areas, labels),
        psnr=masked_psnr(results, truths, inside).mean().item(),
        psnr_autoencoder=masked_psnr(reconstructed, truths, inside).mean().item(),
    )


def _recognised(judge: PatternJudge, images: torch.Tensor, areas: np.ndarray, labels: torch.Tensor) -> float:
    return (judge(judged(images, areas)).argmax(dim=1) == labels).float().mean().item()


def evaluate(engine: Engine, run: Path, count: int, sampling: Sampling) -> dict[str, Report]:
    """Reports by kind: "paired" (persons in their own garments) and "unpaired" (in those of others)."""
    judge, reports = load_judge(run), {}
    for kind in ("paired", "unpaired"):
        trials = draw_trials(range(EVALUATION_SEED, EVALUATION_SEED + count), swapped=kind == "unpaired")
        reports[kind] = measure(engine, trials, judge, sampling)
        verdict = "passes" if reports[kind].passes else "does not pass"
        checkpoint.say(f"{engine.name}, {count} {kind}, {sampling}: {reports[kind]}: {verdict}")
        checkpoint.say(f"| {engine.name}, {kind} | {reports[kind].row()} |")
    return reports


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="run directory")
    parser.add_argument("--bundle", type=Path, help="judge this bundle rather than the run's checkpoint")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--steps", type=int, default=Sampling.steps)
    parser.add_argument("--guidance", type=float, default=Sampling.guidance)
    parser.add_argument("--eta", type=float, default=Sampling.eta)
    parser.add_argument("--threads", type=int, help="CPU threads; by default what torch and OpenVINO choose")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    sampling = Sampling(arguments.steps, arguments.guidance, arguments.eta)
    if arguments.bundle:
        engine: Engine = BundleEngine.load(arguments.bundle, arguments.threads)
    else:
        engine = TorchEngine.load(arguments.out)
    evaluate(engine, arguments.out, arguments.count, sampling)


if __name__ == "__main__":
    main()
