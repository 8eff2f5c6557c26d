"""Samplers: from predicted noise to the next latent. Numpy only; they know no model.

A sampler is made for a number of steps. It holds the timesteps to visit and, per step, says how the
latent moves:

    sampler = make_sampler("ddim", schedule, steps=20, eta=1.0)
    for i, t in enumerate(sampler.timesteps):
        noise_pred = model(latents, t)
        step = sampler.step(i, latents, noise_pred, noise=draw() if sampler.draws_noise else None)
        latents = step.latents

Coefficients are computed in float64 and applied to float32 latents.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, get_args

import numpy as np
import numpy.typing as npt

from catvton_ov.errors import OptionsError

Array = npt.NDArray[np.float32]
Spacing = Literal["leading", "trailing", "linspace"]
SPACINGS: tuple[Spacing, ...] = ("leading", "trailing", "linspace")


@dataclass(frozen=True)
class NoiseSchedule:
    """The noise schedule a model was trained with; the names are those of diffusers' `scheduler_config.json`."""

    num_train_timesteps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: Literal["scaled_linear", "linear"] = "scaled_linear"
    steps_offset: int = 1  # added to every "leading" timestep
    set_alpha_to_one: bool = False  # whether the last DDIM step ends at alpha 1 or at that of timestep 0
    timestep_spacing: Spacing = "leading"
    prediction_type: Literal["epsilon"] = "epsilon"

    def alphas_cumprod(self) -> npt.NDArray[np.float64]:
        """shape = (num_train_timesteps,): alpha-bar of DDPM (arXiv 2006.11239, section 2)."""
        n = self.num_train_timesteps
        if self.beta_schedule == "scaled_linear":
            betas = np.linspace(self.beta_start**0.5, self.beta_end**0.5, n, dtype=np.float64) ** 2
        else:
            betas = np.linspace(self.beta_start, self.beta_end, n, dtype=np.float64)
        return np.cumprod(1.0 - betas, dtype=np.float64)


class SamplerStep(NamedTuple):
    latents: Array  # the latent at the next timestep
    clean: Array  # the current estimate of the clean latent (x_0)


class Sampler(Protocol):
    @property
    def timesteps(self) -> npt.NDArray[np.int64]:
        """shape = (steps,), from noisy to clean."""

    @property
    def draws_noise(self) -> bool:
        """Whether `step` needs fresh unit normal noise."""

    def step(self, index: int, latents: Array, noise_pred: Array, noise: Array | None = None) -> SamplerStep:
        """Move `latents` from timestep number `index` to the next; call in order, 0 .. steps - 1."""


class DDIM:
    """Denoising diffusion implicit models, arXiv 2010.02502; eta 0 is deterministic, eta 1 is DDPM."""

    def __init__(self, schedule: NoiseSchedule, steps: int, eta: float = 0.0, spacing: Spacing | None = None) -> None:
        n = schedule.num_train_timesteps
        spacing = spacing or schedule.timestep_spacing
        if spacing == "leading":
            timesteps = np.arange(0.0, steps) * (n // steps) + schedule.steps_offset
        elif spacing == "trailing":
            timesteps = np.round(np.arange(n, 0, -n / steps)[:steps])[::-1] - 1  # arange may give one more
        else:
            timesteps = np.round(np.linspace(0, n - 1, steps))
        self._timesteps = timesteps[::-1].astype(np.int64)
        self._stride = n // steps
        self._alphas = schedule.alphas_cumprod()
        self._final_alpha = 1.0 if schedule.set_alpha_to_one else float(self._alphas[0])
        self._eta = eta

    @property
    def timesteps(self) -> npt.NDArray[np.int64]:
        return self._timesteps

    @property
    def draws_noise(self) -> bool:
        return self._eta > 0

    def step(self, index: int, latents: Array, noise_pred: Array, noise: Array | None = None) -> SamplerStep:
        t = int(self._timesteps[index])
        previous = t - self._stride
        alpha = float(self._alphas[t])
        alpha_prev = float(self._alphas[previous]) if previous >= 0 else self._final_alpha

        # Equation 12: "predicted x_0", "direction pointing to x_t", "random noise".
        clean = _mix(1 / alpha**0.5, latents, -((1 - alpha) ** 0.5) / alpha**0.5, noise_pred)
        sigma = self._eta * _root((1 - alpha_prev) / (1 - alpha) * (1 - alpha / alpha_prev))  # equation 16
        moved = _mix(alpha_prev**0.5, clean, _root(1 - alpha_prev - sigma**2), noise_pred)
        if self.draws_noise:
            if noise is None:
                raise OptionsError("DDIM with eta > 0 needs noise at every step; got none.")
            moved += np.float32(sigma) * noise
        return SamplerStep(moved, clean)


class DPMSolverPP2M:
    """DPM-Solver++(2M), arXiv 2211.01095, algorithm 2: second order, multistep, deterministic.

    Timesteps and orders are those of diffusers' `DPMSolverMultistepScheduler.from_config(ddim_config)`:
    "leading" spacing divides by steps + 1, and the last step goes to sigma 0 with first order.
    """

    draws_noise = False

    def __init__(self, schedule: NoiseSchedule, steps: int, spacing: Spacing | None = None) -> None:
        n = schedule.num_train_timesteps
        spacing = spacing or schedule.timestep_spacing
        if spacing == "leading":
            timesteps = np.arange(1, steps + 1.0) * (n // (steps + 1)) + schedule.steps_offset
        elif spacing == "trailing":
            timesteps = np.round(np.arange(n, 0, -n / steps)[:steps])[::-1] - 1  # arange may give one more
        else:
            timesteps = np.round(np.linspace(0, n - 1, steps + 1))[1:]
        self._timesteps = timesteps[::-1].astype(np.int64)
        alphas = np.append(schedule.alphas_cumprod()[self._timesteps], 1.0)
        self._alpha = np.sqrt(alphas)  # alpha_t and sigma_t of the paper: x_t = alpha_t x_0 + sigma_t noise
        self._sigma = np.sqrt(1 - alphas)
        self._last_clean: Array | None = None

    @property
    def timesteps(self) -> npt.NDArray[np.int64]:
        return self._timesteps

    def step(self, index: int, latents: Array, noise_pred: Array, noise: Array | None = None) -> SamplerStep:
        del noise
        alpha, sigma = float(self._alpha[index]), float(self._sigma[index])
        alpha_next, sigma_next = float(self._alpha[index + 1]), float(self._sigma[index + 1])
        clean = _mix(1 / alpha, latents, -sigma / alpha, noise_pred)

        last = index == len(self._timesteps) - 1
        first_order = index == 0 or last or self._last_clean is None
        data = clean
        if not first_order:
            assert self._last_clean is not None
            # D = (1 + 1/2r) x_0^(i) - 1/2r x_0^(i-1), r = h_(i-1) / h_i, h the step in log-SNR / 2.
            r = self._half_log_snr_step(index - 1) / self._half_log_snr_step(index)
            data = _mix(1 + 1 / (2 * r), clean, -1 / (2 * r), self._last_clean)
        # x_next = sigma_next / sigma x - alpha_next (exp(-h) - 1) D; exp(-h) = alpha sigma_next / (alpha_next sigma).
        ratio = sigma_next / sigma
        moved = _mix(ratio, latents, alpha_next - alpha * ratio, data)
        self._last_clean = clean
        return SamplerStep(moved, clean)

    def _half_log_snr_step(self, index: int) -> float:
        half_log_snr = np.log(self._alpha[index : index + 2] / self._sigma[index : index + 2])
        return float(half_log_snr[1] - half_log_snr[0])


SamplerName = Literal["ddim", "dpmpp_2m"]
SAMPLERS: tuple[str, ...] = get_args(SamplerName)


def make_sampler(
    name: str, schedule: NoiseSchedule, steps: int, eta: float = 0.0, spacing: Spacing | None = None
) -> Sampler:
    """A sampler for `steps` steps.

    Args:
        name: "ddim" or "dpmpp_2m".
        eta: 0..1, DDIM only (DPM-Solver++(2M) is deterministic and ignores it).
        spacing: "leading", "trailing" or "linspace"; by default that of the schedule.

    Raises:
        OptionsError: an unknown name or spacing, steps or eta outside their range.
    """
    most = schedule.num_train_timesteps - 2  # beyond it "leading" with its offset leaves the schedule
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or not 1 <= steps <= most:
        raise OptionsError(f"steps must be a whole number from 1 to {most}; got {steps!r}.")
    check_sampler(name, eta, spacing)
    if name == "ddim":
        return DDIM(schedule, int(steps), eta, spacing)
    return DPMSolverPP2M(schedule, int(steps), spacing)


def check_sampler(name: str, eta: float, spacing: Spacing | None) -> None:
    """Raise OptionsError for an unknown name or spacing, or an eta outside 0..1."""
    if name not in SAMPLERS:
        raise OptionsError(f"Unknown sampler {name!r}; expected one of {', '.join(SAMPLERS)}.")
    if isinstance(eta, bool) or not isinstance(eta, int | float) or not 0 <= eta <= 1:  # also refuses NaN
        raise OptionsError(f"eta must lie between 0 and 1; got {eta!r}.")
    if spacing is not None and spacing not in SPACINGS:
        raise OptionsError(f"Unknown timestep spacing {spacing!r}; expected one of {', '.join(SPACINGS)}.")


def _mix(a: float, x: Array, b: float, y: Array) -> Array:
    """a x + b y in float32."""
    return np.float32(a) * x + np.float32(b) * y


def _root(x: float) -> float:
    """The square root of a difference that rounding may have pushed below zero."""
    return math.sqrt(max(x, 0.0))
