"""`python -m catvton_ov publish`. Quick to import: the Hub's client comes in only when it runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", type=Path, help="the folder of a bundle")
    add("--repo", metavar="OWNER/NAME", required=True, help="the model repository, made if need be")
    add("--space", metavar="OWNER/NAME", help="also publish a Space that serves it, made if need be")
    add("--private", action="store_true", help="make what is made visible to its owner only")


def run(args: argparse.Namespace) -> int:
    """Publish what `add_arguments` parsed and print what to pin; returns 0.

    Raises:
        BundleError, ExportError: see `publish_model` and `publish_space`.
    """
    from catvton_ov.export.publish import MODEL_VARIABLE, PublishOptions, publish_model, publish_space

    options = PublishOptions(bundle=args.bundle, repo=args.repo, space=args.space, private=args.private)
    model = publish_model(options, progress=_say)
    print(model, flush=True)
    _say(f"To use this version: {MODEL_VARIABLE}={model} python app.py")
    if options.space is not None:
        print(publish_space(options, model, progress=_say), flush=True)
        if model.private:
            _say("The model is private: give the Space a secret HF_TOKEN, a token that may read it.")
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
