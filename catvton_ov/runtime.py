"""OpenVINO: the device, and one thin class per part of a model that is compiled when first called."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import openvino as ov

from catvton_ov.compile_cache import CompileCache
from catvton_ov.errors import BundleDamagedError, DeviceError, OptionsError
from catvton_ov.machine import quota_cores

Precision = Literal["f32", "f16", "bf16"]
Array = npt.NDArray[np.float32]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RuntimeOptions:
    device: str = "CPU"  # what OpenVINO lists on this machine, or "AUTO"
    threads: int | None = None  # CPU threads; None: a container's quota, otherwise OpenVINO's choice
    precision: Precision | None = None  # of inference; None is f32 on a CPU, else the device's own
    profile: bool = False  # count the time of every operation, see Network.profile; slows everything down a little
    cache_dir: Path | None = None  # keeps compiled models between starts; None keeps none

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise OptionsError(f"threads must be at least 1; got {self.threads}.")
        if self.precision not in (None, "f32", "f16", "bf16"):
            raise OptionsError(f"precision must be f32, f16 or bf16; got {self.precision!r}.")


class Runtime:
    """An OpenVINO core with its options checked against this machine."""

    def __init__(self, options: RuntimeOptions) -> None:
        """Raises OptionsError, naming the available devices, when the device is unknown."""
        self.core = ov.Core()
        self.options = options
        self._cache = None if options.cache_dir is None else CompileCache(options.cache_dir)
        available = available_devices(self.core)
        if options.device not in available:
            raise OptionsError(f"There is no device {options.device!r} here; available: {', '.join(available)}.")

    def _is_on_cpu(self) -> bool:
        """A CPU with bfloat16 would take that by itself, and not give the same picture twice with every model."""
        device = self.options.device
        return device == "CPU" or (device == "AUTO" and self.core.available_devices == ["CPU"])

    def compile(self, model: ov.Model, weights: Path) -> ov.CompiledModel:
        """Compile for the device; a cache that cannot be used is ignored.

        Args:
            weights: the model's `.bin`: a cache that is to stay small keeps none of its own.

        Raises:
            DeviceError: the device cannot run the model (too little memory, an unsupported operation).
        """
        config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        threads = self.options.threads or quota_cores()
        if threads is not None:
            config["INFERENCE_NUM_THREADS"] = threads
        if self.options.profile:
            config["PERF_COUNT"] = True
        precision = self.options.precision or ("f32" if self._is_on_cpu() else None)
        if precision is not None:
            config["INFERENCE_PRECISION_HINT"] = precision
        device = self.options.device
        try:
            if self._cache is not None:
                try:
                    return self._cache.compile(self.core, model, device, config, weights)
                except RuntimeError as error:
                    log.warning("The cache in %s is not usable: %s", self.options.cache_dir, _first_line(error))
            return self.core.compile_model(model, device, config)
        except RuntimeError as error:
            raise DeviceError(f"OpenVINO could not prepare the model on {device}: {_first_line(error)}") from error


class Network:
    """One part of a bundle. Compiled for the shapes of its first call; again only when they change."""

    def __init__(
        self,
        runtime: Runtime,
        xml: Callable[[], Path],
        *,
        open_shapes: bool = False,
        edit: Callable[[ov.Model], None] | None = None,
        made: tuple[str, ...] = (),
    ) -> None:
        """Nothing is read yet.

        Args:
            xml: gives the path of a verified IR; it is called when the part is first needed.
            open_shapes: compile once, for every shape that the IR allows; for inputs that change at every call.
            edit: changes the graph, whose shapes are set, before it is compiled.
            made: names of the inputs that `edit` makes.
        """
        self._runtime = runtime
        self._xml = xml
        self._open_shapes = open_shapes
        self._edit = edit
        self._made = made
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._request: ov.InferRequest | None = None

    def prepare(self, **shapes: tuple[int, ...]) -> None:
        """Compile for these input shapes unless that is what is compiled already."""
        if self._open_shapes:
            shapes = {}
        if self._request is not None and shapes == self._shapes:
            return
        self.release()  # never two compiled models of one part
        xml = self._xml()
        try:
            model = self._runtime.core.read_model(xml)
            if shapes:
                model.reshape({name: list(shape) for name, shape in shapes.items() if name not in self._made})
            if self._edit is not None:
                self._edit(model)
        except RuntimeError as error:
            raise BundleDamagedError(
                f"{xml.parent.name} cannot be read for the input shapes {shapes}: {_first_line(error)}"
            ) from error
        self._request = self._runtime.compile(model, xml.with_suffix(".bin")).create_infer_request()
        self._shapes = shapes

    def __call__(self, **inputs: npt.NDArray[Any]) -> Array:
        """Run the part; returns its first output, float32, in memory of its own.

        Raises:
            BundleDamagedError: the file is damaged or its inputs are not these.
            DeviceError: the device could not compile or run it.
        """
        result: Array = np.asarray(self._infer(inputs, share_outputs=False)[0], dtype=np.float32)
        return result

    def outputs(self, **inputs: npt.NDArray[Any]) -> dict[str, Array]:
        """Run the part; returns every output by its name, float32, in the part's memory: valid until its next call.

        Raises what calling the part raises.
        """
        results = self._infer(inputs, share_outputs=True)
        return {port.any_name: np.asarray(value, dtype=np.float32) for port, value in results.items()}

    def _infer(self, inputs: dict[str, npt.NDArray[Any]], share_outputs: bool) -> Any:
        self.prepare(**{name: value.shape for name, value in inputs.items()})
        assert self._request is not None
        try:
            return self._request.infer(inputs, share_inputs=True, share_outputs=share_outputs)
        except RuntimeError as error:
            raise DeviceError(f"OpenVINO could not run the model: {_first_line(error)}") from error

    def output_shape(self, name: str) -> tuple[int, ...]:
        """Of an output of the part as it is compiled."""
        assert self._request is not None
        return tuple(self._request.get_tensor(name).shape)

    def profile(self) -> dict[str, float]:
        """Where the time of the last run went: operation type -> seconds. Empty unless the runtime profiles."""
        return {} if self._request is None else operation_seconds(self._request)

    def release(self) -> None:
        """Give the compiled model's memory back; the next call compiles again."""
        self._request = None
        self._shapes = {}


def operation_seconds(request: ov.InferRequest) -> dict[str, float]:
    """Where the time of a request's last run went: operation type -> seconds. Needs PERF_COUNT."""
    seconds: dict[str, float] = {}
    for node in request.get_profiling_info():
        seconds[node.node_type] = seconds.get(node.node_type, 0.0) + node.real_time.total_seconds()
    return seconds


def available_devices(core: ov.Core | None = None) -> list[str]:
    """What a device may be called on this machine."""
    return [*(core or ov.Core()).available_devices, "AUTO"]


def _first_line(error: Exception) -> str:
    """The telling part of an OpenVINO message: its last non-empty line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
