"""How long somebody waits: for the page, the model, a mask and a whole picture; and how right the page's guess is.

python -m tools.waiting start --model BUNDLE [--rounds 3]                  each in a process of its own, files warm
python -m tools.waiting picture --model BUNDLE --size 768x1024 [--preset fast] [--times 2]
python -m tools.waiting mask --model BUNDLE [--size 768x1024]              with the published parsers, part by part
"""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from catvton_ov.masking import cloth_agnostic_mask
from catvton_ov.masking.parsers import PublishedParser, open_parser
from catvton_ov.measure import peak_rss
from catvton_ov.options import TryOnOptions, TryOnResult, TryOnStep, size_of
from catvton_ov.pace import Clock, Pace
from catvton_ov.pipeline import TryOnPipeline
from catvton_ov.presets import PRESETS, preset
from catvton_ov.runtime import Runtime, RuntimeOptions
from catvton_ov.sources import open_bundle

Pictures = tuple[Image.Image, Image.Image, Image.Image]  # person, garment and mask
ROOT = Path(__file__).resolve().parent.parent
READY = """
import sys
from catvton_ov.measure import PipelineSubject, Work
from catvton_ov.presets import PRESETS
PipelineSubject(Work(sys.argv[1], (384, 512), PRESETS["fast"])).prepare()
"""


def start(model: str, rounds: int) -> None:
    """Seconds from the start of a process, the medians of some rounds that take turns."""
    tasks: dict[str, Callable[[], float]] = {
        "importing gradio and openvino": lambda: _run("-c", "import gradio, openvino"),
        "page answers": lambda: _page(model),
        "model ready at 384x512": lambda: _run("-c", READY, model),
    }
    _run("-c", READY, model)  # files are read and hashed once
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            seconds[name].append(task())
    for name, values in seconds.items():
        print(f"| {name} | {statistics.median(values):.1f} | {min(values):.1f} to {max(values):.1f} |")


def _run(*arguments: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True)
    return time.perf_counter() - begun


def _page(model: str) -> float:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as cache:
        begun = time.perf_counter()
        page = subprocess.Popen(
            [sys.executable, "app.py", "--port", str(port), "--model", model],
            cwd=ROOT,
            env={**os.environ, "GRADIO_TEMP_DIR": cache},
            stdout=subprocess.DEVNULL,
        )
        try:
            while True:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read(1)
                    return time.perf_counter() - begun
                except OSError:
                    if page.poll() is not None:
                        raise
                    time.sleep(0.02)
        finally:
            page.terminate()
            page.wait()


def picture(model: str, size: tuple[int, int], name: str, times: int) -> None:
    """Whole pictures of noise, one after the other in this process, and what the page would have said of each."""
    rng = np.random.default_rng(0)
    person, garment = (Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), np.uint8)) for _ in range(2))
    mask = Image.new("L", size, 0)
    mask.paste(255, (size[0] // 4, size[1] // 4, 3 * size[0] // 4, 3 * size[1] // 4))
    pipeline, known = TryOnPipeline.load(model), None
    for number in range(times):
        known = _one(pipeline, (person, garment, mask), preset(name, size=size, seed=number), known)
    print(f"highest memory of the process: {peak_rss() / 1e9:.2f} GB")


def _one(pipeline: TryOnPipeline, pictures: Pictures, options: TryOnOptions, known: Pace | None) -> Pace:
    clock, begun, said = Clock(options, known, pictures[0].size), time.perf_counter(), []
    if (guess := clock.before()) is not None:
        print(f"said before: {guess:.1f} s")
    for item in pipeline.steps(*pictures, options):
        now = time.perf_counter() - begun
        if isinstance(item, TryOnStep):
            said.append((item.step, now, clock.step(item.seconds)))
        else:
            assert isinstance(item, TryOnResult)
            result = item
    whole = time.perf_counter() - begun
    stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in result.seconds.items())
    print(f"whole picture: {whole:.1f} s ({stages})")
    for step, now, left in said:
        print(f"after step {step}: said {left:.1f} s left, were {whole - now:.1f} ({left / (whole - now) - 1:+.0%})")
    return clock.pace(result.seconds)


def mask(model: str, size: tuple[int, int]) -> None:
    """Twice: the first time everything is compiled. A part is let go before the next, as in the app."""
    parser = open_parser(open_bundle(model), Runtime(RuntimeOptions()))
    assert isinstance(parser, PublishedParser), f"{model} does not bring the published parsers"
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), np.uint8))
    before = psutil.Process().memory_info().rss / 1e9
    for number in range(2):
        if number:
            parser.frugal = False
            parser(photo)
        begun, seconds = time.perf_counter(), {}
        for name, part in {"DensePose": parser.densepose, "SCHP LIP": parser.lip, "SCHP ATR": parser.atr}.items():
            started = time.perf_counter()
            found = part(photo)
            if name == "DensePose":
                found = found.label_map(0)
            if not number:
                (part if name == "DensePose" else part.network).release()
            seconds[name] = (time.perf_counter() - started, found)
        started = time.perf_counter()
        cloth_agnostic_mask(*(labels for _, labels in seconds.values()), "upper")
        parts = ", ".join(f"{name} {taken:.2f}" for name, (taken, _) in seconds.items())
        now = time.perf_counter()
        what = "compiled already" if number else "compiled for it, and let go"
        print(f"{what}: {now - begun:.2f} s ({parts}, mask {now - started:.2f})")
        if not number:
            print(f"memory: {before:.2f} GB before, {peak_rss() / 1e9 - before:.2f} GB more at its highest")
    print(f"all three kept in memory: {peak_rss() / 1e9 - before:.2f} GB more at its highest")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    starting = commands.add_parser("start")
    starting.add_argument("--model", required=True)
    starting.add_argument("--rounds", type=int, default=3)
    making = commands.add_parser("picture")
    making.add_argument("--model", required=True)
    making.add_argument("--size", type=size_of, required=True)
    making.add_argument("--preset", choices=tuple(PRESETS), default="fast")
    making.add_argument("--times", type=int, default=1)
    masking = commands.add_parser("mask")
    masking.add_argument("--model", required=True)
    masking.add_argument("--size", type=size_of, default=(768, 1024))
    arguments = parser.parse_args()
    if arguments.command == "start":
        start(arguments.model, arguments.rounds)
    elif arguments.command == "mask":
        mask(arguments.model, arguments.size)
    else:
        picture(arguments.model, arguments.size, arguments.preset, arguments.times)


if __name__ == "__main__":
    main()
