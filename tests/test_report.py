"""The report: its figures, its table, and the processes that measure."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from catvton_ov import cli
from catvton_ov.bundle import Bundle
from catvton_ov.errors import DeviceError
from catvton_ov.export.calibration import find_pairs
from catvton_ov.export.report import make_report
from catvton_ov.export.report_table import render
from catvton_ov.machine import this_machine
from catvton_ov.measure import Work, measure
from catvton_ov.metrics import psnr, ssim
from catvton_ov.presets import PRESETS
from catvton_ov.sources import bundled_folder

EXAMPLES = bundled_folder() / "examples"


def test_psnr_and_ssim_are_torchmetrics_own() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 256, (61, 47, 3)).astype(np.float64)
    truth = (truth + np.roll(truth, 1, 0) + np.roll(truth, 1, 1)) / 3  # some structure
    for strength in (2, 20, 80):
        picture = np.clip(truth + rng.normal(0, strength, truth.shape), 0, 255).round()
        a, b = (torch.from_numpy(each).permute(2, 0, 1)[None] for each in (picture, truth.round()))
        assert psnr(picture, truth.round()) == pytest.approx(
            float(peak_signal_noise_ratio(a, b, data_range=255.0)), abs=1e-4
        )
        expected = float(structural_similarity_index_measure(a, b, data_range=255.0))  # type: ignore[arg-type]
        assert ssim(picture, truth.round()) == pytest.approx(expected, abs=1e-4)
    assert psnr(truth, truth) == float("inf")
    assert ssim(truth, truth) == pytest.approx(1)


def test_a_report_compares_times_and_counts(golden_bundle: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "golden"
    shutil.copytree(golden_bundle, bundle)
    content = make_report(
        {"reference": golden_bundle, "same": bundle}, "reference", find_pairs(EXAMPLES, 0)[:2], "quick", [(64, 128)]
    )
    (quality,) = content["quality"]
    assert (quality["psnr"], quality["psnr_masked"], quality["pairs"], quality["steps"]) == (*[float("inf")] * 2, 2, 4)
    assert (content["presets"], content["extras"]) == ([], {})
    assert quality["ssim"] == pytest.approx(1)
    assert [row["relative"] for row in quality["noise_error"]] == [0, 0, 0, 0]
    assert [row["timestep"] for row in quality["noise_error"]] == [751, 501, 251, 1]

    assert [row["preset"] for row in content["speed"]] == ["reference", "balanced", "fast"]
    speed = content["speed"][0]
    assert (speed["bundle"], speed["size"], speed["estimated"]) == ("same", [64, 128], True)
    assert speed["picture"] > 80 * speed["unet_pass"][0]  # 50 steps with guidance, multiplied up
    assert speed["peak_rss_bytes"] > 50e6
    assert [row["passes"] for row in content["speed"]] == [(100, 0), (12, 12), (5, 8)]
    assert len({(options.shortcuts.keys, options.guidance_scale > 1) for options in PRESETS.values()}) == 1
    fast = content["speed"][2]
    passes = 5 * fast["unet_pass"][1] + 8 * fast["shallow_pass"]
    assert fast["picture"] == pytest.approx(fast["encode"] + passes + fast["decode"])
    assert content["speed"][2]["shallow_pass"] > 0
    total = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file() and path.name != "manifest.json")
    assert content["bytes"]["same"]["total"] == total

    table = render(content)
    assert f"{this_machine().cores} cores" in table
    assert "multiplied up" in table
    assert "| same | 64x128 |" in table


def test_report_by_command_line_puts_the_files_beside_the_manifest(
    golden_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "golden"
    shutil.copytree(golden_bundle, bundle)
    assert cli.main(["report", str(bundle), "--size", "64x128"]) == 0
    assert "UNet pass" in capsys.readouterr().out
    content = json.loads((bundle / "report.json").read_bytes())
    assert (content["quality"], len(content["speed"])) == ([], 3)
    assert "UNet pass" in (bundle / "report.md").read_text()
    Bundle.open(bundle)
    assert cli.main(["report", str(tmp_path / "none")]) == 1
    before = (bundle / "report.json").read_bytes()
    assert cli.main(["report", str(bundle), "--size", "60x60"]) == 1
    assert "multiples of 8" in capsys.readouterr().err
    assert (bundle / "report.json").read_bytes() == before


def test_what_cannot_be_measured_says_why() -> None:
    with pytest.raises(DeviceError, match=r"384x512 could not be measured: .*expected an existing folder"):
        measure(Work("no such thing", (384, 512)))
    content = make_report({"paper_doll": bundled_folder()}, None, [], "quick", [(8, 8)])
    assert "could not be measured" in content["speed"][0]["error"]
    assert "could not be measured" in render(content)
