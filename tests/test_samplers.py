"""Samplers: the same latents as diffusers, step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

from catvton_ov.errors import OptionsError
from catvton_ov.samplers import SAMPLERS, SPACINGS, NoiseSchedule, Sampler, Spacing, make_sampler

SCHEDULE = NoiseSchedule()
SHAPE = (1, 4, 16, 6)
STEPS = (1, 2, 3, 10, 20, 50)


def reference_config(spacing: Spacing) -> Any:
    """The config of the model's DDIMScheduler, with another timestep spacing."""
    return DDIMScheduler(
        num_train_timesteps=SCHEDULE.num_train_timesteps,
        beta_start=SCHEDULE.beta_start,
        beta_end=SCHEDULE.beta_end,
        beta_schedule=SCHEDULE.beta_schedule,
        clip_sample=False,
        set_alpha_to_one=SCHEDULE.set_alpha_to_one,
        steps_offset=SCHEDULE.steps_offset,
        timestep_spacing=spacing,
    ).config


def pseudo_model(latents: np.ndarray, t: int) -> np.ndarray:
    """A smooth, bounded function of latent and timestep: noise enough to tell every coefficient apart."""
    mixed = np.roll(latents, 1, axis=-1) - 0.5 * np.roll(latents, 1, axis=-2)
    return (np.tanh(latents + 0.3 * mixed) + 0.2 * np.sin(t / 100 + mixed)).astype(np.float32)


def assert_same_walk(sampler: Sampler, scheduler: Any, **step_arguments: Any) -> None:
    """Both start from one latent and get the same noise; each follows its own latents."""
    rng = np.random.default_rng(0)
    ours = rng.standard_normal(SHAPE, np.float32)
    theirs = torch.from_numpy(ours.copy())
    assert sampler.timesteps.tolist() == scheduler.timesteps.tolist()
    for index, t in enumerate(sampler.timesteps):
        fresh = rng.standard_normal(SHAPE, np.float32) if sampler.draws_noise else None
        if fresh is not None:
            step_arguments["variance_noise"] = torch.from_numpy(fresh)
        ours = sampler.step(index, ours, pseudo_model(ours, t), fresh).latents
        noise_pred = torch.from_numpy(pseudo_model(theirs.numpy(), t))
        theirs = scheduler.step(noise_pred, int(t), theirs, **step_arguments).prev_sample
        assert ours.dtype == np.float32
        error = np.abs(ours - theirs.numpy()).max() / np.abs(theirs.numpy()).max()
        assert error <= 1e-4, f"step {index}, timestep {t}: {error:.1e}"


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", STEPS)
def test_ddim_walks_as_in_diffusers(steps: int, eta: float, spacing: Spacing) -> None:
    scheduler = DDIMScheduler.from_config(reference_config(spacing))
    scheduler.set_timesteps(steps)
    assert_same_walk(make_sampler("ddim", SCHEDULE, steps, eta, spacing), scheduler, eta=eta)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", STEPS)
def test_dpm_solver_walks_as_in_diffusers(steps: int, spacing: Spacing) -> None:
    scheduler = DPMSolverMultistepScheduler.from_config(reference_config(spacing))
    scheduler.set_timesteps(steps)
    assert_same_walk(make_sampler("dpmpp_2m", SCHEDULE, steps, 1.0, spacing), scheduler)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("spacing", SPACINGS)
def test_any_number_of_steps_gives_as_many_falling_timesteps(name: str, spacing: Spacing) -> None:
    for steps in range(1, SCHEDULE.num_train_timesteps - 1):
        timesteps = make_sampler(name, SCHEDULE, steps, spacing=spacing).timesteps
        assert len(timesteps) == steps  # 61 "trailing" steps round to one too many unless care is taken
        assert timesteps.max() < SCHEDULE.num_train_timesteps
        assert timesteps.min() >= 0
        assert (np.diff(timesteps) < 0).all()


def test_the_schedule_says_the_spacing_unless_the_caller_does() -> None:
    trailing = NoiseSchedule(timestep_spacing="trailing")
    for name in SAMPLERS:
        own = make_sampler(name, trailing, 4).timesteps.tolist()
        assert own == make_sampler(name, SCHEDULE, 4, spacing="trailing").timesteps.tolist()
        assert own != make_sampler(name, trailing, 4, spacing="leading").timesteps.tolist()


@pytest.mark.parametrize(
    ("name", "eta", "draws"), [("ddim", 0.0, False), ("ddim", 0.01, True), ("ddim", 1.0, True), ("dpmpp_2m", 1, False)]
)
def test_a_sampler_knows_whether_it_draws_noise(name: str, eta: float, draws: bool) -> None:
    sampler = make_sampler(name, SCHEDULE, 5, eta)
    assert sampler.draws_noise == draws
    latents = np.ones(SHAPE, np.float32)
    if draws:
        with pytest.raises(OptionsError, match="needs noise at every step"):
            sampler.step(0, latents, latents)
    else:
        assert np.isfinite(sampler.step(0, latents, latents).latents).all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_clean_estimate_undoes_the_noise_it_is_told(name: str) -> None:
    rng = np.random.default_rng(1)
    picture, noise = rng.standard_normal((2, *SHAPE), np.float32)
    sampler = make_sampler(name, SCHEDULE, 10)
    for index, t in enumerate(sampler.timesteps):
        alpha = SCHEDULE.alphas_cumprod()[t]
        noisy = (np.sqrt(alpha) * picture + np.sqrt(1 - alpha) * noise).astype(np.float32)
        assert np.abs(sampler.step(index, noisy, noise).clean - picture).max() < 1e-4


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"steps": 0}, r"steps must be a whole number from 1 to 998; got 0\."),
        ({"steps": -3}, "got -3"),
        ({"steps": 999}, "got 999"),
        ({"steps": 10**9}, "got 1000000000"),
        ({"steps": 2.5}, r"got 2\.5"),
        ({"steps": True}, "got True"),
        ({"eta": float("nan")}, "eta must lie between 0 and 1; got nan"),
        ({"eta": 1.01}, r"got 1\.01"),
        ({"eta": -0.1}, r"got -0\.1"),
        ({"name": "euler"}, "Unknown sampler 'euler'; expected one of ddim, dpmpp_2m"),
        ({"spacing": "karras"}, "Unknown timestep spacing 'karras'; expected one of leading, trailing, linspace"),
    ],
)
def test_what_no_sampler_can_do_is_refused(arguments: dict[str, Any], fault: str) -> None:
    with pytest.raises(OptionsError, match=fault):
        make_sampler(**{"name": "ddim", "schedule": SCHEDULE, "steps": 10, **arguments})
