"""What stands behind the page: the models it offers, its editor's values, its examples."""

from __future__ import annotations

import gc
import shutil
import weakref
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from catvton_ov.errors import BundleDamagedError, ImageError, MaskError, OptionsError
from catvton_ov.page.editor import editor_value, photo_and_mask
from catvton_ov.page.engine import Engine
from catvton_ov.page.examples import Examples
from catvton_ov.page.handlers import CATEGORIES, Handlers
from catvton_ov.pictures.reader import OwnProcess


def test_choosing_another_model_or_device_frees_the_one_in_memory(golden_bundle: Path) -> None:
    engine = Engine([str(golden_bundle), "paper_doll"])
    first = engine.pipeline(str(golden_bundle), "CPU")
    assert engine.pipeline(str(golden_bundle), "CPU") is first
    freed = weakref.ref(first)
    del first
    second = engine.pipeline("paper_doll", "CPU")
    gc.collect()
    assert freed() is None
    assert second.bundle.manifest.name == "paper_doll"
    assert engine.pipeline("paper_doll", "AUTO") is not second


def test_a_page_offers_its_own_models_and_this_machines_devices_only() -> None:
    with pytest.raises(OptionsError, match="available: CPU"):
        Engine(["paper_doll"], device="TPU")
    with pytest.raises(OptionsError, match="does not offer the model '/etc'"):
        Engine(["paper_doll"]).pipeline("/etc", "CPU")


def test_a_model_that_cannot_be_opened_leaves_a_page_that_says_why(golden_bundle: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(golden_bundle, broken)
    (broken / "unet" / "openvino_model.bin").unlink()
    *_, (notice, persons, garments, *_) = Handlers(Engine([str(broken)]), OwnProcess(), tmp_path).show_model(
        str(broken)
    )
    assert "unet/openvino_model.bin is missing" in notice
    assert persons["visible"] is False
    assert garments["visible"] is False


def test_a_flipped_byte_is_one_sentence_for_the_visitor_and_the_other_model_still_serves(
    golden_bundle: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(golden_bundle, damaged)
    weights = damaged / "unet" / "openvino_model.bin"
    content = bytearray(weights.read_bytes())
    content[1000] ^= 1
    weights.chmod(0o644)
    weights.write_bytes(content)
    engine = Engine([str(damaged), str(golden_bundle)])
    photo, mask = Image.new("RGB", (64, 128), "gray"), Image.new("L", (64, 128))
    mask.paste(255, (10, 30, 54, 100))
    with pytest.raises(BundleDamagedError, match="checksum"):
        engine.pipeline(str(damaged), "CPU")(photo, photo, mask)
    assert engine.pipeline(str(golden_bundle), "CPU")(photo, photo, mask).picture.size == photo.size


def test_what_is_painted_on_any_layer_is_the_mask_and_a_given_mask_comes_back_the_same() -> None:
    photo = Image.new("RGB", (40, 60), "gray")
    mask = Image.new("L", photo.size)
    mask.paste(255, (5, 5, 20, 30))
    value = editor_value(photo, mask)
    extra = Image.new("RGBA", photo.size)
    extra.paste((0, 0, 0, 255), (30, 40, 35, 50))  # black paint is paint
    value["layers"].append(extra)
    shown, painted = photo_and_mask(value)
    expected = np.asarray(mask) > 0
    expected[40:50, 30:35] = True
    assert shown is photo
    assert np.array_equal(np.asarray(painted) > 0, expected)


@pytest.mark.parametrize("value", [None, {"background": None, "layers": [], "composite": None}])
def test_an_editor_without_a_photo_asks_for_one(value: dict[str, object] | None) -> None:
    with pytest.raises(ImageError, match="Add a photo"):
        photo_and_mask(value)


@pytest.mark.parametrize("layers", [[], [Image.new("RGBA", (40, 60))], None])
def test_an_unpainted_photo_asks_for_paint(layers: list[Image.Image] | None) -> None:
    with pytest.raises(MaskError, match="Paint over the clothes"):
        photo_and_mask({"background": Image.new("RGB", (40, 60)), "layers": layers, "composite": None})


def test_a_layer_that_does_not_lie_on_the_photo_is_refused() -> None:
    layer = Image.new("RGBA", (10, 10), "red")
    with pytest.raises(MaskError, match="does not fit"):
        photo_and_mask({"background": Image.new("RGB", (40, 60)), "layers": [layer], "composite": None})


def test_every_example_person_brings_a_mask_for_every_category_and_every_garment_its_category(tmp_path: Path) -> None:
    examples = Examples(Engine(["paper_doll"]).bundle("paper_doll"), CATEGORIES, OwnProcess(), tmp_path)
    assert len(examples.persons) >= 6
    assert {examples.category(path) for path in examples.garments} == set(CATEGORIES)
    for path in examples.persons:
        for category in CATEGORIES:
            value = examples.person(path.stem, category)
            with Image.open(value["background"]) as photo:
                (file,) = value["layers"]
                with Image.open(file) as layer:
                    assert layer.size == photo.size
                    assert 0.02 < np.asarray(layer.getchannel("A")).astype(bool).mean() < 0.6


def test_another_category_repaints_an_example_person_but_never_a_photo_of_ones_own(tmp_path: Path) -> None:
    handlers = Handlers(Engine(["paper_doll"]), OwnProcess(), tmp_path)
    name = handlers.examples("paper_doll").persons[0].stem
    with Image.open(handlers.examples("paper_doll").persons[0]) as picture:
        example = {"background": picture.convert("RGB"), "layers": [], "composite": None}
    own = {"background": Image.new("RGB", (384, 512), "gray"), "layers": [], "composite": None}
    percents = (0, 0, 0, 0, 0)
    repainted, _ = handlers.change_category("paper_doll", "lower", name, example, None, True, *percents)
    assert repainted["layers"]
    kept, _ = handlers.change_category("paper_doll", "lower", name, own, None, True, *percents)
    assert kept == gr.skip()
