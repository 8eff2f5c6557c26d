"""The UNet of a bundle, with the shortcuts a picture may take through it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openvino as ov

from catvton_ov.graph import DEEP, give_deep, start_from_deep, thin_keys
from catvton_ov.runtime import Array, Network, Runtime
from catvton_ov.shortcuts import Branch, Pass, Shortcuts

Timestep = npt.NDArray[np.int64]


class UNet:
    """Predicts noise. Keeps what is compiled for the last shapes and shortcuts."""

    def __init__(self, runtime: Runtime, xml: Callable[[], Path]) -> None:
        """Nothing is read yet; `xml` gives the path of the verified IR."""
        self._runtime = runtime
        self._xml = xml
        self._shortcuts = Shortcuts()
        self._full = Network(runtime, xml)
        self._shallow = Network(runtime, xml)

    def take(self, shortcuts: Shortcuts) -> None:
        """From now on, go through the UNet like this; compiles anew only where the graph is another one."""
        if (shortcuts.keys, shortcuts.caches) != (self._shortcuts.keys, self._shortcuts.caches):
            self.release()

            def full(model: ov.Model) -> None:
                thin_keys(model, shortcuts.keys)
                if shortcuts.caches:
                    give_deep(model)

            def shallow(model: ov.Model) -> None:
                thin_keys(model, shortcuts.keys)
                start_from_deep(model)

            self._full = Network(self._runtime, self._xml, edit=full)
            self._shallow = Network(self._runtime, self._xml, edit=shallow, made=(DEEP,))
        self._shortcuts = shortcuts

    def prepare(self, sample: tuple[int, ...]) -> None:
        """Read, edit and compile for samples of this shape what passes need, unless that is compiled already.

        Raises what calling raises.
        """
        self._full.prepare(sample=sample, timestep=(1,))
        if self._shortcuts.caches:
            self._shallow.prepare(sample=sample, timestep=(1,), deep=self._full.output_shape(DEEP))

    def __call__(self, sample: Array, timestep: Timestep) -> Array:
        """A full pass.

        Args:
            sample: shape = (1, 2C+1, 2h, w), float32: noisy latent, mask, condition latent.
            timestep: shape = (1,), int64, 0 .. num_train_timesteps - 1.

        Returns:
            shape = (1, C, 2h, w), float32: the noise in the sample.

        Raises:
            BundleDamagedError: the file is damaged, or its graph has no room for the shortcuts.
            DeviceError: the device could not compile or run it.
        """
        return self._full(sample=sample, timestep=timestep)

    def passes(self) -> Passes:
        """The passes of one picture, which share what full ones leave for shallow ones."""
        return Passes(self)

    def profile(self) -> dict[str, float]:
        """Where the time of the last full pass went: operation type -> seconds. Empty unless the runtime profiles."""
        return self._full.profile()

    def release(self) -> None:
        """Give the compiled models' memory back; the next pass compiles again."""
        self._full.release()
        self._shallow.release()


class Passes:
    """What the passes of one picture hand on to each other."""

    def __init__(self, unet: UNet) -> None:
        self._unet = unet
        self._deep: dict[Branch, Array] = {}

    def __call__(self, planned: Pass, sample: Array, timestep: Timestep) -> Array:
        """One planned pass; arguments, result and errors are those of the UNet."""
        unet = self._unet
        if not unet._shortcuts.caches:
            return unet(sample, timestep)
        if not planned.full:
            return unet._shallow(sample=sample, timestep=timestep, deep=self._deep[planned.branch])
        found = unet._full.outputs(sample=sample, timestep=timestep)
        self._deep[planned.branch] = found[DEEP].copy()
        return found["noise_pred"].copy()
