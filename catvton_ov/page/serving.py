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
    corner_mark: bool  # "AI" in a corner of every result
    mcp: bool  # the endpoints as tools for agents
    bounds: Bounds


def serving(arguments: Sequence[str] | None = None) -> Serving:
    """Read the command line; the program ends with a sentence on what it cannot use."""
    env = os.environ.get
    parser = argparse.ArgumentParser(
        description="The try-on page.", epilog="Every setting is also read from CATVTON_OV_<NAME>."
    )
    add, limits = parser.add_argument, Bounds()
    model_help = "folder, paper_doll, or Hub owner/name[@revision]; may be given several times to let visitors choose"
    add("--model", metavar="SOURCE", action="append", help=model_help)
    add("--device", default=env("CATVTON_OV_DEVICE", "CPU"), help="what OpenVINO lists, or AUTO")
    add("--host", default=env("CATVTON_OV_HOST", "0.0.0.0" if env("SYSTEM") == "spaces" else "127.0.0.1"))
    add("--port", type=int, default=env("CATVTON_OV_PORT", "7860"))
    add("--share", action="store_true", default=env("CATVTON_OV_SHARE") == "1", help="a public link")
    add("--auth", metavar="USER:PASSWORD", default=env("CATVTON_OV_AUTH"), help="ask visitors for it")
    add("--cache-dir", type=Path, default=env("CATVTON_OV_CACHE_DIR"), help="keeps compiled models between starts")
    no_checker = "do not use the model's safety checker, if it brings one"
    add("--no-safety-checker", action="store_true", default=env("CATVTON_OV_NO_SAFETY_CHECKER") == "1", help=no_checker)
    corner_help = "write AI into a corner of every result (on a Space it is, unless --no-corner-mark is given)"
    corner = env("CATVTON_OV_CORNER_MARK", "1" if env("SYSTEM") == "spaces" else "0") == "1"
    add("--corner-mark", action=argparse.BooleanOptionalAction, default=corner, help=corner_help)
    mcp_help = "offer the endpoints to agents as MCP tools, at /mcp (needs requirements-mcp.txt)"
    add("--mcp", action="store_true", default=env("CATVTON_OV_MCP") == "1", help=mcp_help)
    bounds = {
        "jobs_per_minute": (int, "try-ons that one visitor may start in a minute"),
        "requests_per_minute": (int, "whatever one visitor may send in a minute"),
        "job_seconds": (float, "after which a try-on is stopped"),
        "waiting": (int, "visitors who may wait at once"),
        "keep_seconds": (float, "after which photos in the temporary folder are deleted"),
    }
    for name, (kind, meaning) in bounds.items():
        default = env(f"CATVTON_OV_{name.upper()}", str(getattr(limits, name)))
        add(f"--{name.replace('_', '-')}", type=kind, default=default, metavar="N", help=f"{meaning} ({default})")
    args = parser.parse_args(arguments)
    if args.auth and ":" not in args.auth:
        parser.error("--auth takes USER:PASSWORD")
    try:
        limits = Bounds(**{name: getattr(args, name) for name in bounds})
    except TryOnError as error:
        parser.error(str(error))
    user, _, password = (args.auth or "").partition(":")
    return Serving(
        models=tuple(args.model or env("CATVTON_OV_MODEL", BUNDLED).split()),
        device=args.device,
        host=args.host,
        port=args.port,
        share=args.share,
        auth=(user, password) if args.auth else None,
        cache_dir=args.cache_dir,
        safety_checker=not args.no_safety_checker,
        corner_mark=args.corner_mark,
        mcp=args.mcp,
        bounds=limits,
    )
