"""Metrics: the libraries' own numbers, the reference's protocol, and a page that needs nothing else.

Published networks cannot be had here: stand-ins of their shape, with random weights, take their place.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import sync_playwright
from scipy import linalg
from torchmetrics.functional.image import learned_perceptual_image_patch_similarity, lpips

from catvton_ov.cli import main
from catvton_ov.evaluate.matching import match
from catvton_ov.evaluate.networks import (
    FEATURES,
    INCEPTION_FILE,
    LPIPS_FILE,
    NETWORKS,
    Inception,
    Lpips,
    fid_and_kid,
    squeezenet_features,
)
from catvton_ov.metrics import psnr, ssim
from catvton_ov.sources import bundled_folder

CHROMIUM = shutil.which("chromium")
PERSONS = sorted((bundled_folder() / "examples/person").glob("*.png"))


class StandIn(torch.nn.Module):
    """What the published Inception looks like from outside: `layers` makes FEATURES numbers of 299x299 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.AvgPool2d(37), torch.nn.Conv2d(3, FEATURES, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("networks")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        state = {f"features.{name}": value for name, value in squeezenet_features().state_dict().items()}
        torch.save({**state, "classifier.1.bias": torch.zeros(1000)}, folder / LPIPS_FILE)
        torch.jit.script(StandIn()).save(folder / INCEPTION_FILE)
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Twelve results and their truths, twice as large."""
    results, truths, rng = tmp_path / "results", tmp_path / "truths", np.random.default_rng(0)
    results.mkdir()
    truths.mkdir()
    for number in range(12):
        truth = Image.open(PERSONS[number % len(PERSONS)]).convert("RGB").resize((384, 512))
        truth.save(truths / f"{number:05}_00.jpg", quality=95)
        noise = rng.normal(0, 3 * number + 1, (256, 192, 3))
        result = np.clip(np.asarray(truth.resize((192, 256))) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(result).save(results / f"{number:05}_00.png")
    return results, truths


def test_lpips_is_torchmetrics_own(networks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On one network: torchmetrics gets it where it would ask torchvision for it."""
    measure = Lpips(networks / LPIPS_FILE)

    def features(net: str, pretrained: bool) -> torch.nn.Sequential:
        assert (net, pretrained) == ("squeezenet1_1", True)
        return measure._features

    monkeypatch.setattr(lpips, "_get_tv_model_features", features)
    one, other = (Image.open(path).convert("RGB") for path in PERSONS[:2])
    a, b = (torch.from_numpy(np.array(each)).permute(2, 0, 1)[None] / 127.5 - 1 for each in (one, other))
    expected = float(learned_perceptual_image_patch_similarity(a, b, net_type="squeeze"))
    assert expected > 0.001
    assert measure(one, other) == pytest.approx(expected, rel=1e-5)
    assert measure(one, one) == 0


def test_fid_and_kid_are_clean_fids_own() -> None:
    """By the formulas of cleanfid.fid, in NumPy and SciPy; its library needs torchvision and cannot run here."""
    rng = np.random.default_rng(2)
    made, true = (rng.normal(mean, 1, (200, 64)) for mean in (0.0, 0.3))
    before = torch.random.get_rng_state()
    fid, kid = fid_and_kid(torch.from_numpy(made).float(), torch.from_numpy(true).float())
    assert torch.equal(before, torch.random.get_rng_state())
    covs = [np.cov(features, rowvar=False) for features in (made, true)]
    distance = np.sum((made.mean(0) - true.mean(0)) ** 2)
    expected = distance + np.trace(covs[0] + covs[1] - 2 * linalg.sqrtm(covs[0] @ covs[1]).real)
    assert fid == pytest.approx(expected, rel=1e-4)

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1) ** 3

    m, same = len(made), kernel(made, made) + kernel(true, true)
    expected = ((same.sum() - np.trace(same)) / (m - 1) - 2 * kernel(made, true).sum() / m) / m
    assert kid == pytest.approx(expected, rel=1e-3)


def test_inception_sees_pictures_as_clean_fid_resizes_them(networks: Path) -> None:
    pictures = [Image.open(path).convert("RGB") for path in PERSONS[:2]]
    features = Inception(networks / INCEPTION_FILE)(pictures)
    assert features.shape == (2, FEATURES)
    x = torch.cat([torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() for picture in pictures])
    resized = torch.nn.functional.interpolate(x, (299, 299), mode="bicubic", antialias=True).clamp(0, 255)
    expected = torch.jit.load(networks / INCEPTION_FILE).layers((resized - 128) / 128).flatten(1)
    assert torch.allclose(features, expected, atol=1e-3)
    assert Inception(networks / INCEPTION_FILE)([]).shape == (0, FEATURES)


def test_results_are_matched_by_name_or_by_the_references_id() -> None:
    def files(*names: str) -> list[Path]:
        return [Path("folder") / name for name in names]

    truths = files("00006_00.jpg", "013563_0.jpg", "013563_1.jpg", "Ada.png", "twin1.png", "twin1.jpg")
    results = files(
        "00006_00.png", "tryon-00006_00.png", "013563_0.png", "ada.png", "Zoe.png", "99999_00.png", "twin1.png"
    )
    matches, unmatched = match(results, truths)
    assert [(pair.name, pair.truth.name) for pair in matches] == [
        ("00006_00", "00006_00.jpg"),
        ("tryon-00006_00", "00006_00.jpg"),
        ("013563_0", "013563_0.jpg"),
        ("ada", "Ada.png"),
    ]
    assert unmatched == [
        "Zoe.png has no truth.",
        "99999_00.png has no truth.",
        "twin1.png has several truths (twin1.png, twin1.jpg).",
    ]


def test_all_measures_and_the_page(
    folders: tuple[Path, Path], networks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, truths = folders
    Image.new("RGB", (192, 256)).save(results / "a&b.png")  # no truth
    Image.new("RGB", (100, 256)).save(results / "00012_00.png")  # of another shape
    (truths / "00012_00.jpg").write_bytes((truths / "00000_00.jpg").read_bytes())
    (results / "00013_00.png").write_text("no picture")
    (truths / "00013_00.jpg").write_bytes((truths / "00001_00.jpg").read_bytes())
    page = tmp_path / "page.html"
    words = ["evaluate", "--pred", str(results), "--truth", str(truths), "--paired", "--networks", str(networks)]
    assert main([*words, "--report", str(page), "--json"]) == 0
    said = capsys.readouterr()
    figures = json.loads(said.out)
    assert (figures["results"], figures["truths"], figures["pairs"]) == (15, 14, 12)
    expected = []
    for number in range(12):
        result = np.asarray(Image.open(results / f"{number:05}_00.png"))
        truth = Image.open(truths / f"{number:05}_00.jpg").resize((192, 256), Image.Resampling.LANCZOS)
        expected.append((ssim(result, np.asarray(truth)), psnr(result, np.asarray(truth))))
    assert (figures["SSIM"], figures["PSNR"]) == pytest.approx(tuple(np.mean(expected, axis=0)))
    assert figures["LPIPS"] > 0
    assert figures["FID"] > 0
    assert "left out: a&b.png has no truth." in said.err
    assert "left out: 00012_00 has 100x256 pixels and its truth, at that height, 192x256" in said.err
    assert said.err.count("00013_00.png") == 1

    html = page.read_text()
    assert "a&amp;b.png has no truth." in html
    assert html.count("<svg") == 3
    assert html.count('src="data:image/jpeg;base64,') == html.count("<img ") == 2 * (10 + 10)
    assert not re.search(r"https?://|<script|<link|url\(", html)
    worst = re.search(r"Worst by LPIPS.*?<figcaption><b>(\S+)</b>", html, re.DOTALL)
    best = re.search(r"Best by LPIPS.*?<figcaption><b>(\S+)</b>", html, re.DOTALL)
    assert worst is not None
    assert best is not None
    assert (worst[1], best[1]) == ("00011_00", "00000_00")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "results", "truths"]


@pytest.mark.skipif(CHROMIUM is None, reason="NOT RUN: no chromium here (apt-get install chromium)")
def test_the_page_fits_a_phone_and_asks_for_nothing_else(folders: tuple[Path, Path], tmp_path: Path) -> None:
    results, truths = folders
    results = results.rename(tmp_path / ("long_name_" * 12))
    words = ["evaluate", "--pred", str(results), "--truth", str(truths), "--paired"]
    assert main([*words, "--report", str(tmp_path / "page.html")]) == 0
    asked: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(viewport={"width": 360, "height": 780}, is_mobile=True).new_page()
        page.on("request", lambda request: asked.append(request.url.partition(":")[0]))
        page.goto((tmp_path / "page.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0 && image.width > 150)")
        assert page.locator("rect").count() == 2 * 20
        browser.close()
    assert set(asked) - {"data"} == {"file"}


def test_equal_pictures_have_no_psnr_to_average(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    results, _ = folders
    assert main(["evaluate", "--pred", str(results), "--truth", str(results), "--paired"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["SSIM  1.0000", "PSNR  inf dB"]


def test_what_cannot_be_measured_is_one_line(
    folders: tuple[Path, Path], networks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, truths = folders
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    for name in NETWORKS:
        (tmp_path / "damaged" / name).write_bytes(b"damaged")
    for truth, more, fault in (
        (truths, [], "Without --paired there are FID and KID only, which need --networks."),
        (truths, ["--networks", "empty"], f"empty has no {INCEPTION_FILE}. Download it from https://"),
        (truths, ["--paired", "--networks", "empty"], f"empty has no {LPIPS_FILE}. Download it from https://"),
        (truths, ["--networks", "damaged"], f"{INCEPTION_FILE} is not the Inception network in TorchScript."),
        (truths, ["--paired", "--networks", "damaged"], f"{LPIPS_FILE} is not SqueezeNet 1.1"),
        (tmp_path / "empty", ["--paired"], "There are no pictures in"),
        (tmp_path / "none", ["--paired"], "none cannot be read: No such file or directory."),
        (truths, ["--paired", "--report", str(tmp_path / "none/page.html")], "The folder of --report does not exist"),
    ):
        words = [str(tmp_path / word) if word in ("empty", "damaged") else word for word in more]
        assert main(["evaluate", "--pred", str(results), "--truth", str(truth), *words]) == 1
        said = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
        assert said[-1].startswith("error: ")
        assert fault in said[-1]
