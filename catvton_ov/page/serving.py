"""The page's settings: the command line, and environment variables of the same meaning for a Space."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from catvton_ov.errors import TryOnError
from catvton_ov.page.bounds import Bounds
from catvton_ov.sources import BUNDLED


@dataclass(frozen=True)
class Serving:
    """How the page is served."""

    models: tuple[str, ...]  # sources, the first is what visitors see first
    device: str
    host: str
    port: int
    share: bool  # a public link through Gradio's relay
    auth: tuple[str, str] | None  # user and password
    cache_dir: Path | None  # keeps compiled models
    safety_checker: bool
    keep_parsers: bool  # in memory, between masks
    corner_mark: bool  # "AI" in a corner of every result
    mcp: bool  # the endpoints as tools for agents
    bounds: Bounds


def _env(name: str, default: str = "") -> str:
    """An environment variable; an empty one counts as not there."""
    return os.environ.get(name) or default


def serving(arguments: Sequence[str] | None = None) -> Serving:
    """Read the command line; the program ends with a sentence on what it cannot use."""
    parser = argparse.ArgumentParser(
        description="The try-on page.", epilog="Every setting is also read from CATVTON_OV_<NAME>."
    )
    add, limits = parser.add_argument, Bounds()
    model_help = "folder, paper_doll, or Hub owner/name[@revision]; may be given several times to let visitors choose"
    add("--model", metavar="SOURCE", action="append", help=model_help)
    add("--device", default=_env("CATVTON_OV_DEVICE", "CPU"), help="what OpenVINO lists, or AUTO")
    add("--host", default=_env("CATVTON_OV_HOST", "0.0.0.0" if _env("SYSTEM") == "spaces" else "127.0.0.1"))
    add("--port", type=int, default=_env("CATVTON_OV_PORT", "7860"))
    add("--auth", metavar="USER:PASSWORD", default=_env("CATVTON_OV_AUTH"), help="ask visitors for it")
    cache_dir = _env("CATVTON_OV_CACHE_DIR") or None
    add("--cache-dir", type=Path, default=cache_dir, help="keeps compiled models between starts")
    switches = {
        "share": "a public link",
        "no_safety_checker": "do not use the model's safety checker, if it brings one",
        "keep_parsers": "keep the published mask parsers in memory: masks come 2 s sooner and take 1.2 GB more",
        "mcp": "offer the endpoints to agents as MCP tools, at /mcp (needs requirements-mcp.txt)",
    }
    for name, meaning in switches.items():
        default = _env(f"CATVTON_OV_{name.upper()}") == "1"
        add(f"--{name.replace('_', '-')}", action="store_true", default=default, help=meaning)
    corner_help = "write AI into a corner of every result (on a Space it is, unless --no-corner-mark is given)"
    corner = _env("CATVTON_OV_CORNER_MARK", "1" if _env("SYSTEM") == "spaces" else "0") == "1"
    add("--corner-mark", action=argparse.BooleanOptionalAction, default=corner, help=corner_help)
    bounds = {
        "jobs_per_minute": (int, "try-ons that one visitor may start in a minute"),
        "requests_per_minute": (int, "whatever one visitor may send in a minute"),
        "job_seconds": (float, "after which a try-on is stopped"),
        "waiting": (int, "visitors who may wait at once"),
        "keep_seconds": (float, "after which photos in the temporary folder are deleted"),
    }
    for name, (kind, meaning) in bounds.items():
        number = _env(f"CATVTON_OV_{name.upper()}", str(getattr(limits, name)))
        add(f"--{name.replace('_', '-')}", type=kind, default=number, metavar="N", help=f"{meaning} ({number})")
    args = parser.parse_args(arguments)
    if not 0 < args.port < 65536:
        parser.error(f"--port must be from 1 to 65535; got {args.port}")
    if args.auth and ":" not in args.auth:
        parser.error("--auth takes USER:PASSWORD")
    try:
        limits = Bounds(**{name: getattr(args, name) for name in bounds})
    except TryOnError as error:
        parser.error(str(error))
    user, _, password = (args.auth or "").partition(":")
    return Serving(
        models=tuple(args.model or _env("CATVTON_OV_MODEL").split() or [BUNDLED]),
        device=args.device,
        host=args.host,
        port=args.port,
        share=args.share,
        auth=(user, password) if args.auth else None,
        cache_dir=args.cache_dir,
        safety_checker=not args.no_safety_checker,
        keep_parsers=args.keep_parsers,
        corner_mark=args.corner_mark,
        mcp=args.mcp,
        bounds=limits,
    )
