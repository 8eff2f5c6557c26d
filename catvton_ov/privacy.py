"""Nothing phones home: the switches of the libraries we stand on, set before they are imported."""

from __future__ import annotations

import os
import sys


def silence_telemetry() -> None:
    """Turn off what OpenVINO, NNCF, Gradio, huggingface_hub and Ray would send on their own.

    OpenVINO and NNCF import `openvino_telemetry` if they can and fall back to a stub of their own if
    they cannot, so it is made impossible to import; the others read environment variables.
    """
    if "openvino_telemetry" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = "1"  # of its own record of who did what when
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
