"""Estimates of time: from what this machine has shown, and from the steps of the picture that is being made."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from PIL import Image

from catvton_ov.errors import OptionsError
from catvton_ov.machine import _cpu_quota, cores, quota_cores
from catvton_ov.memory import Memory
from catvton_ov.options import TryOnOptions, TryOnResult, TryOnStep
from catvton_ov.pace import Clock, Pace, Paces, decoding_share, pace_key
from catvton_ov.page.bounds import Bounds
from catvton_ov.page.engine import Engine
from catvton_ov.page.speed import Speed
from catvton_ov.page.tryon import TryOn
from catvton_ov.pictures.reader import OwnProcess
from catvton_ov.pipeline import TryOnPipeline
from catvton_ov.presets import PRESETS, preset
from catvton_ov.shortcuts import Shortcuts

CACHED = TryOnOptions(steps=6, shortcuts=Shortcuts(cache_every=3, guided=(0, 0.5)))  # 3 full pairs' worth, see below


def run(clock: Clock, full: float, shallow: float, first: float) -> list[float]:
    """Step through a picture whose passes take these seconds, the first step some more; what is said to be left."""
    left = []
    for number, passes in enumerate(clock.plan):
        seconds = sum(full if each.full else shallow for each in passes)
        left.append(clock.step(seconds + (first if number == 0 else 0)))
    return left


def test_what_is_left_is_right_after_the_second_step() -> None:
    clock = Clock(CACHED)
    assert clock.before() is None
    left = run(clock, full=8, shallow=1, first=2)
    # Passes by step: 2 full, 2 shallow, 2 shallow, 1 full, 1 shallow, 1 shallow; then the decoding.
    true = [2 + 2 + 8 + 1 + 1, 2 + 8 + 1 + 1, 8 + 1 + 1, 1 + 1, 1, 0]
    for said, denoising in list(zip(left, true, strict=True))[1:]:
        assert said == pytest.approx(denoising + 10, rel=0.25)


def test_a_known_machine_is_told_before_it_begins(tmp_path: Path) -> None:
    paces = Paces(Memory(tmp_path / "memory.json"))
    assert paces.get("model") is None
    first = Clock(CACHED)
    run(first, full=8, shallow=1, first=0)
    paces.put("model", first.pace({"prepare": 1, "encode": 3, "denoise": 30, "preview": 9, "decode": 1, "check": 1}))
    known = Paces(Memory(tmp_path / "memory.json")).get("model")
    assert known == Pace(8, 1, 4, 2)
    second = Clock(CACHED, known)
    assert second.before() == 6 + 16 + 4 + 8 + 2
    assert run(second, full=8, shallow=1, first=5)[1] == pytest.approx(2 + 12)
    (tmp_path / "memory.json").write_text('{"pace model": "soon"}')
    assert paces.get("model") is None


def test_previews_to_come_are_counted_without_the_first_that_compiles_the_checker() -> None:
    plain, clock = Clock(preset("reference")), Clock(preset("reference"), preview_every=8)  # six of them
    extra = {8: 90.0, 16: 5.0, 24: 5.0, 32: 5.0, 40: 5.0, 48: 5.0}
    for number in range(1, 51):
        if number in extra:
            clock.preview(extra[number])
        more = clock.step(8.0) - plain.step(8.0)
        assert more == pytest.approx(0 if number < 16 else 5 * sum(each > number for each in extra)), number


def test_the_compiling_of_a_shallow_pass_is_not_taken_for_its_pace() -> None:
    clock = Clock(PRESETS["fast"])
    clock.step(6.0)  # a full pass, then a shallow one that was compiled first
    left = clock.step(0.6 + 5.0)
    passes = [each.full for step in clock.plan[2:] for each in step]
    assert left == pytest.approx(6.0 * sum(passes) + 0.6 * (len(passes) - sum(passes)) + 8, rel=0.25)


def test_what_the_first_picture_of_a_process_compiles_is_not_expected_of_the_next(tmp_path: Path) -> None:
    engine = Engine(["paper_doll"])
    speed = Speed(engine, Paces(Memory(tmp_path / "memory.json")))
    engine.bundle("paper_doll")
    options = preset("fast")

    def make(speed: Speed, **seconds: float) -> None:
        clock = speed.clock("paper_doll", "CPU", options)
        run(clock, full=8, shallow=1, first=0)
        speed.learn("paper_doll", "CPU", clock, TryOnResult(Image.new("RGB", (1, 1)), 0, seconds))

    make(speed, encode=9, decode=4)
    make(speed, encode=4, decode=3)
    steps = speed.clock("paper_doll", "CPU", options).before()
    make(Speed(engine, speed.paces), encode=9, decode=4)  # the next start of the page
    assert speed.clock("paper_doll", "CPU", options).before() == steps
    assert speed.paces.get(speed._key("paper_doll", "CPU", options)) == Pace(8, 1, 4, 3)


def test_the_first_steps_are_remembered_though_the_picture_is_never_finished(tmp_path: Path) -> None:
    engine = Engine(["paper_doll"])
    speed = Speed(engine, Paces(Memory(tmp_path / "memory.json")))
    engine.bundle("paper_doll")
    options = preset("reference")
    assert speed.estimate("paper_doll", "CPU", options) is None
    clock = speed.clock("paper_doll", "CPU", options)
    clock.step(9.0)
    clock.step(8.0)
    speed.glimpse("paper_doll", "CPU", clock, 3.0)
    expected = 3 + 50 * 8 + 4 * decoding_share((192, 256))
    assert speed.estimate("paper_doll", "CPU", options) == pytest.approx(expected)
    known = speed.clock("paper_doll", "CPU", options)
    known.step(80.0)
    speed.glimpse("paper_doll", "CPU", known, 3.0)  # what is known is not overwritten by a glimpse
    assert speed.estimate("paper_doll", "CPU", options) == pytest.approx(expected)


def test_a_picture_that_would_be_stopped_for_its_time_is_not_begun() -> None:
    trying = TryOn(Engine(["paper_doll"]), OwnProcess(), Bounds(job_seconds=100), corner_mark=False, cache="")
    for guess in (None, 100, 120):  # a guess may be wrong by a quarter
        trying._check_time(guess)
    with pytest.raises(OptionsError, match="would take about 4 min here, and the page stops after about 2 min"):
        trying._check_time(240)


def test_a_real_run_is_estimated(golden_bundle: Path) -> None:
    """Not by much more than a busy machine's noise: the estimate's arithmetic is checked above."""
    golden = Path(__file__).parent / "golden" / "tryon"
    pictures = [Image.open(golden / f"{name}.png") for name in ("person", "garment", "mask")]
    pipeline = TryOnPipeline.load(golden_bundle)
    clock = Clock(PRESETS["fast"])
    since, left = time.perf_counter(), []
    for item in pipeline.steps(*pictures, clock.options):
        if isinstance(item, TryOnStep):
            left.append(clock.step(item.seconds))
    whole = time.perf_counter() - since
    assert 0 < left[1] < 2 * whole
    assert left[-1] < left[1]


def test_what_decides_the_pace_is_in_its_name(golden_bundle: Path) -> None:
    manifest = TryOnPipeline.load(golden_bundle).bundle.manifest
    options = TryOnOptions()
    keys = {
        pace_key(manifest, (64, 128), "CPU", options),
        pace_key(manifest, (64, 128), "GPU", options),
        pace_key(manifest, (128, 128), "CPU", options),
        pace_key(manifest, (64, 128), "CPU", TryOnOptions(shortcuts=Shortcuts(keys="thinned"))),
    }
    assert len(keys) == 4


@pytest.mark.parametrize(
    ("text", "quota"), [("150000 100000\n", 1.5), ("max 100000\n", None), ("", None), ("1 0", None)]
)
def test_a_containers_quota(tmp_path: Path, text: str, quota: float | None) -> None:
    path = tmp_path / "cpu.max"
    path.write_text(text)
    assert _cpu_quota(path) == quota
    assert quota_cores(tmp_path / "nothing") is None
    path.write_text("10000 100000")
    assert quota_cores(path) == 1
    path.write_text("99900000 100000")
    assert quota_cores(path) is None
    assert cores() >= 1
