"""Export: published checkpoints in, a bundle out that does what the authors' implementation does."""

from __future__ import annotations

import argparse
import dataclasses
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from catvton_ov.bundle import PARTS, Bundle, Manifest
from catvton_ov.errors import BundleDamagedError, ExportError
from catvton_ov.export import command
from catvton_ov.export.build import ExportOptions, export_bundle
from catvton_ov.export.configs import read_schedule, read_unet_config, read_vae_config
from catvton_ov.export.unet import TimestepFeatures, build_unet, drop_cross_attention, load_unet, self_attentions
from catvton_ov.export.vae import LatentDecoder, load_vae
from catvton_ov.samplers import NoiseSchedule
from tests.hub_standin import client_settings, serve

GOLDEN = Path(__file__).parent / "golden" / "tryon"
UNET = "stable-diffusion-inpainting/unet/diffusion_pytorch_model.bin"
UNET_CONFIG = "stable-diffusion-inpainting/unet/config.json"
SCHEDULER = "stable-diffusion-inpainting/scheduler/scheduler_config.json"
VAE = "sd-vae-ft-mse/diffusion_pytorch_model.safetensors"
VAE_CONFIG = "sd-vae-ft-mse/config.json"
ATTENTION = "CatVTON/mix-48k-1024/attention/model.safetensors"
TRACES = sorted(path.name for path in GOLDEN.glob("trace_*.npz"))
TOLERANCE = 1e-3  # of the largest absolute value


def options_for(checkpoints: Path, out: Path, **changes: Any) -> ExportOptions:
    options = ExportOptions(
        base=str(checkpoints / "stable-diffusion-inpainting"),
        vae=str(checkpoints / "sd-vae-ft-mse"),
        catvton=str(checkpoints / "CatVTON"),
        checkpoint="mix",
        out=out,
        parts=("tryon",),
        report="none",
        precision="fp32",
    )
    return dataclasses.replace(options, **changes)


def compile_part(bundle: Path, part: str, **shapes: tuple[int, ...]) -> ov.CompiledModel:
    model = ov.Core().read_model(Bundle.open(bundle).part(part))
    if shapes:
        model.reshape({name: list(shape) for name, shape in shapes.items()})
    return ov.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def error_of_max(actual: np.ndarray, expected: np.ndarray) -> float:
    assert actual.shape == expected.shape
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def picture(name: str) -> np.ndarray:
    """shape = (1, 3, H, W), float32 in [-1, 1]."""
    rgb = np.asarray(Image.open(GOLDEN / name).convert("RGB"), np.float32)
    return (rgb / 127.5 - 1).transpose(2, 0, 1)[None]


# --- the same as the reference -----------------------------------------------------------------------------------


@pytest.mark.parametrize("trace", TRACES)
def test_unet_predicts_the_reference_noise_at_every_step(golden_bundle: Path, trace: str) -> None:
    golden = np.load(GOLDEN / trace)
    unet = compile_part(golden_bundle, "unet", sample=golden["unet_input"].shape[1:])
    for t, sample, expected in zip(golden["timesteps"], golden["unet_input"], golden["unet_output"], strict=True):
        noise_pred = unet({"sample": sample, "timestep": np.array([t], np.int64)})["noise_pred"]
        assert error_of_max(noise_pred, expected) <= TOLERANCE


def test_encoder_gives_the_reference_latents(golden_bundle: Path) -> None:
    # The reference blurs the mask before the model sees it, not only for pasting back.
    mask = np.asarray(Image.open(GOLDEN / "mask_blurred.png").convert("L"), np.float32) / 255
    pictures = np.concatenate([picture("person_cropped.png") * (mask < 0.5), picture("garment_padded.png")])
    latents = compile_part(golden_bundle, "vae_encoder")({"picture": pictures})["latent"]
    unet_input = np.load(GOLDEN / "trace_steps4_cfg2.5_eta1.0.npz")["unet_input"]
    expected = unet_input[0, 1, 5:]  # the conditional half: the person's latent above the garment's
    assert error_of_max(np.concatenate(list(latents), axis=1), expected) <= TOLERANCE


@pytest.mark.parametrize("trace", TRACES)
def test_decoder_gives_the_reference_picture(golden_bundle: Path, trace: str) -> None:
    golden = np.load(GOLDEN / trace)
    latent = np.ascontiguousarray(golden["latents_after_step"][-1][:, :, :16])  # the person half
    decoded = compile_part(golden_bundle, "vae_decoder", latent=latent.shape)({"latent": latent})["picture"]
    assert error_of_max(decoded, golden["decoded"]) <= TOLERANCE


# --- the graphs --------------------------------------------------------------------------------------------------


def describe(ports: list[Any]) -> list[tuple[str, str, str]]:
    return [(port.any_name, port.element_type.get_type_name(), str(port.partial_shape)) for port in ports]


def test_inputs_and_outputs_are_named_and_open(golden_bundle: Path) -> None:
    models = {part: ov.Core().read_model(Bundle.open(golden_bundle).part(part)) for part in PARTS}
    assert {part: describe(model.inputs) for part, model in models.items()} == {
        "unet": [("sample", "f32", "[?,9,?,?]"), ("timestep", "i64", "[1]")],
        "vae_encoder": [("picture", "f32", "[?,3,?,?]")],
        "vae_decoder": [("latent", "f32", "[?,4,?,?]")],
    }
    outputs = {part: describe(model.outputs)[0][:2] for part, model in models.items()}
    assert outputs == {
        "unet": ("noise_pred", "f32"),
        "vae_encoder": ("latent", "f32"),
        "vae_decoder": ("picture", "f32"),
    }


# 32x8 is the golden's; 18x13 is no multiple of 8, where the UNet must up-sample to its skip connections' sizes.
@pytest.mark.parametrize("shape", [(1, 9, 32, 8), (2, 9, 48, 24), (1, 9, 18, 13)])
def test_unet_is_the_same_open_and_reshaped(golden_bundle: Path, shape: tuple[int, ...]) -> None:
    inputs = {
        "sample": np.random.default_rng(0).standard_normal(shape, np.float32),
        "timestep": np.array([501], np.int64),
    }
    fixed = compile_part(golden_bundle, "unet", sample=shape)(inputs)["noise_pred"]
    assert fixed.shape == (shape[0], 4, *shape[2:])
    assert error_of_max(compile_part(golden_bundle, "unet")(inputs)["noise_pred"], fixed) <= 1e-4


def test_attention_stays_fused_and_cross_attention_is_gone(golden_bundle: Path) -> None:
    config = json.loads((GOLDEN / UNET_CONFIG).read_text())
    unet = build_unet(config, UNET_CONFIG)
    drop_cross_attention(unet)
    assert not [name for name in unet.state_dict() if "attn2" in name]

    model = ov.Core().read_model(golden_bundle / "unet/openvino_model.xml")
    kinds = [op.get_type_name() for op in model.get_ops()]
    assert kinds.count("ScaledDotProductAttention") == len(self_attentions(unet)) == 10
    assert "Softmax" not in kinds
    assert not [op for op in model.get_ops() if "attn2" in op.get_friendly_name() and op.get_type_name() == "Constant"]
    weights = sum(parameter.numel() for parameter in unet.parameters())
    stored = (golden_bundle / "unet/openvino_model.bin").stat().st_size
    assert stored < 4 * weights + 8192  # each weight at most once (equal ones are shared), and small constants


def test_fp16_by_command_line_is_half_as_big_and_close(
    golden_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "fp16"
    sources = {"base": "stable-diffusion-inpainting", "vae": "sd-vae-ft-mse", "catvton": "CatVTON"}
    arguments = [text for role, name in sources.items() for text in (f"--{role}", str(GOLDEN / name))]
    arguments += ["--checkpoint", "mix", "--out", str(out), "--size", "64x128", "--size", "128x64"]
    arguments += ["--precision", "fp16", "--parts", "tryon", "--report", "none"]
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    assert command.run(parser.parse_args(arguments)) == 0
    assert capsys.readouterr().out == f"{out}\n"

    manifest = Bundle.open(out).manifest
    assert (manifest.precision, manifest.sizes) == ("fp16", ((64, 128), (128, 64)))
    for part in PARTS:
        sizes = [(bundle / part / "openvino_model.bin").stat().st_size for bundle in (out, golden_bundle)]
        assert sizes[0] / sizes[1] == pytest.approx(0.5, abs=0.02)

    # As close as the same network in torch with its weights rounded, which is 0.0046 at the noisiest step: the
    # timestep's frequencies must not be rounded with them (that gave 0.0235).
    golden = np.load(GOLDEN / "trace_steps20_cfg3.5_eta1.0.npz")
    inputs = {"sample": golden["unet_input"][0], "timestep": golden["timesteps"][:1]}
    noise_pred = compile_part(out, "unet")(inputs)["noise_pred"]
    assert error_of_max(noise_pred, golden["unet_output"][0]) <= 6e-3


@pytest.mark.parametrize(("channels", "flip", "shift"), [(320, True, 0), (16, False, 1)])
def test_timestep_features_are_those_of_diffusers(channels: int, flip: bool, shift: int) -> None:
    from diffusers.models.embeddings import get_timestep_embedding

    timesteps = torch.arange(1000)
    expected = get_timestep_embedding(timesteps, channels, flip_sin_to_cos=flip, downscale_freq_shift=shift)
    features = TimestepFeatures(channels, flip, shift)
    assert torch.equal(features.coarse, features.coarse.half().float())
    assert torch.equal(features.fine, features.fine.half().float())
    assert torch.allclose(features(timesteps), expected, rtol=0, atol=2e-4)


# --- the bundle --------------------------------------------------------------------------------------------------


def test_manifest_says_what_is_there(golden_bundle: Path) -> None:
    bundle = Bundle.open(golden_bundle)
    manifest = bundle.manifest
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert set(manifest.files) == {
        "model_index.json",
        "openvino_config.json",
        "scheduler/scheduler_config.json",
        *(f"{part}/{name}" for part in PARTS for name in ("config.json", "openvino_model.xml", "openvino_model.bin")),
    }
    assert manifest.family == "catvton-sd15"
    assert manifest.precision == "fp32"
    assert manifest.sizes == ((64, 128),)
    assert dataclasses.astuple(manifest.latent) == (4, 8, 0.18215)
    assert manifest.schedule == NoiseSchedule()
    assert manifest.mask_blur == 9
    assert [(source.role, source.repo, source.revision) for source in manifest.sources] == [
        ("base", "stable-diffusion-inpainting", "local"),
        ("vae", "sd-vae-ft-mse", "local"),
        ("catvton", "CatVTON", "local"),
    ]
    assert "CC BY-NC-SA 4.0" in manifest.licence
    assert "OpenRAIL-M" in manifest.licence
    for name in manifest.files:
        bundle.verify(name)


def test_a_changed_part_is_noticed(golden_bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(golden_bundle, tmp_path / "changed")
    weights = tmp_path / "changed/unet/openvino_model.bin"
    content = bytearray(weights.read_bytes())
    content[1000] ^= 1
    weights.write_bytes(content)
    with pytest.raises(BundleDamagedError, match=r"unet/openvino_model\.bin"):
        Bundle.open(tmp_path / "changed").part("unet")


# --- wrong input -------------------------------------------------------------------------------------------------


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """A copy of the golden checkpoints, to be spoiled."""
    folder = tmp_path / "checkpoints"
    for name in ("stable-diffusion-inpainting", "sd-vae-ft-mse", "CatVTON"):
        shutil.copytree(GOLDEN / name, folder / name)
    return folder


def refused(checkpoints: Path, **changes: Any) -> str:
    """What export says about the checkpoints; it must leave nothing behind."""
    before = sorted(checkpoints.parent.iterdir())
    with pytest.raises(ExportError) as raised:
        export_bundle(options_for(checkpoints, checkpoints.parent / "out", **changes))
    assert sorted(checkpoints.parent.iterdir()) == before
    return str(raised.value)


def edit_tensors(path: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    pickled = path.suffix == ".bin"
    tensors = torch.load(path, weights_only=True) if pickled else load_file(path)
    edit(tensors)
    if pickled:
        torch.save(tensors, path)
    else:
        save_file(tensors, path)


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


KEPT = "mid_block.attentions.0.transformer_blocks.0.norm2.weight"
DROPPED = "up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"


@pytest.mark.parametrize(
    ("file", "edit", "fault"),
    [
        (UNET, lambda t: t.pop(KEPT), f"Missing: {KEPT}."),
        (UNET, lambda t: t.pop(DROPPED), f"Missing: {DROPPED}."),
        (UNET, lambda t: t.update({"ema.decay": torch.ones(1)}), "Unexpected: ema.decay."),
        (UNET, lambda t: t.update({KEPT: torch.ones(33)}), f"Misshapen: {KEPT} (33,) instead of (32,)."),
        (UNET, lambda t: t.update({KEPT: torch.ones(32, dtype=torch.int8)}), f"Not floating-point: {KEPT} int8."),
        (UNET, lambda t: t.update({"steps": 5}), "'steps' is a int"),
        (VAE, lambda t: t.pop("quant_conv.bias"), "Missing: quant_conv.bias."),
        (VAE, lambda t: t.update({"loss": torch.ones(1)}), "Unexpected: loss."),
        (ATTENTION, lambda t: t.pop("8.to_v.weight"), "Missing: 8.to_v.weight."),
        (ATTENTION, lambda t: t.update({"16.to_q.bias": torch.ones(32)}), "Unexpected: 16.to_q.bias."),
        (
            ATTENTION,
            lambda t: t.update({"72.to_q.weight": torch.ones(32, 16)}),
            "Misshapen: 72.to_q.weight (32, 16) instead of (32, 32).",
        ),
        (ATTENTION, lambda t: t.update({"to_q.weight": torch.ones(1)}), "belong to no attention: to_q.weight."),
        (ATTENTION, lambda t: t.update({"080.to_q.weight": torch.ones(1)}), "no attention: 080.to_q.weight."),
        (ATTENTION, lambda t: t.update({"80.to_q.weight": torch.ones(1)}), "holds 11 attentions"),
        (
            ATTENTION,
            lambda t: [t.pop(f"0.{name}") for name in [k[2:] for k in t if k.startswith("0.")]],
            "holds 9 attentions (indices 8, 16, 24, 32, 40, 48, 56, 64, 72); this UNet has 10.",
        ),
    ],
)
def test_wrong_tensors_are_named(
    checkpoints: Path, file: str, edit: Callable[[dict[str, torch.Tensor]], object], fault: str
) -> None:
    edit_tensors(checkpoints / file, edit)
    message = refused(checkpoints)
    assert fault in message
    assert str(checkpoints / file) in message


def test_a_long_list_of_faults_is_shortened(checkpoints: Path) -> None:
    edit_tensors(checkpoints / UNET, lambda tensors: [tensors.pop(name) for name in list(tensors)[:400]])
    message = refused(checkpoints)
    assert "and 396 more" in message
    assert len(message) < 1000


@pytest.mark.parametrize(
    ("file", "changes", "fault"),
    [
        (UNET_CONFIG, {"class_embed_type": "timestep"}, 'class_embed_type is "timestep"'),
        (UNET_CONFIG, {"up_block_types": ["UpBlock2D", "AttnUpBlock2D"]}, "'AttnUpBlock2D'"),
        (UNET_CONFIG, {"block_out_channels": [16, 32]}, "does not describe a UNet"),
        (UNET_CONFIG, {"_class_name": "UNet3DConditionModel"}, "describes a UNet3DConditionModel"),
        (VAE_CONFIG, {"shift_factor": 0.1}, "shift_factor is 0.1"),
        (VAE_CONFIG, {"_class_name": "VQModel"}, "describes a VQModel; expected a AutoencoderKL"),
        (SCHEDULER, {"prediction_type": "v_prediction"}, 'prediction_type is "v_prediction"'),
        (SCHEDULER, {"trained_betas": [0.1, 0.2]}, "trained_betas"),
        (SCHEDULER, {"clip_sample": True}, "clip_sample"),
        (SCHEDULER, {"thresholding": True}, "thresholding"),
        (SCHEDULER, {"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr"),
        (SCHEDULER, {"beta_schedule": "squaredcos_cap_v2"}, "beta_schedule"),
        (SCHEDULER, {"beta_end": 1.5}, "beta_end"),
        (SCHEDULER, {"num_train_timesteps": "many"}, "num_train_timesteps"),
    ],
)
def test_configs_that_ask_for_more_are_refused(
    checkpoints: Path, file: str, changes: dict[str, Any], fault: str
) -> None:
    edit_json(checkpoints / file, **changes)
    assert fault in refused(checkpoints)


def test_absent_scheduler_fields_have_the_defaults_of_ddim(checkpoints: Path) -> None:
    from diffusers import DDIMScheduler

    path = checkpoints / SCHEDULER
    path.write_text('{"clip_sample": false}')
    defaults = DDIMScheduler().config
    expected = {field.name: defaults[field.name] for field in dataclasses.fields(NoiseSchedule)}
    assert dataclasses.asdict(read_schedule(path)) == expected
    path.write_text("{}")
    with pytest.raises(ExportError, match="clip_sample"):
        read_schedule(path)


def test_a_unet_that_is_not_for_inpainting_is_refused(checkpoints: Path) -> None:
    edit_json(checkpoints / UNET_CONFIG, in_channels=4)
    edit_tensors(checkpoints / UNET, lambda t: t.update({"conv_in.weight": t["conv_in.weight"][:, :4].clone()}))
    assert "do not fit" in refused(checkpoints)


class Malicious:
    """Unpickling it would create a file."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.victim), "w"))


@pytest.mark.parametrize(
    "save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2))]
)
def test_a_pickle_with_code_is_refused_and_not_run(
    checkpoints: Path, save: Callable[[object, Path], object], tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    save({"conv_in.weight": torch.ones(1), "x": Malicious(victim)}, checkpoints / UNET)
    assert "was refused" in refused(checkpoints)
    assert not victim.exists()


@pytest.mark.parametrize("file", [UNET, VAE, ATTENTION])
@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"version https://git-lfs.github.com/spec/v1\n"])
def test_files_that_are_no_checkpoints_are_refused(checkpoints: Path, file: str, content: bytes) -> None:
    (checkpoints / file).write_bytes(content)
    assert str(checkpoints / file) in refused(checkpoints)


def test_missing_files_and_sources_are_named(checkpoints: Path) -> None:
    assert "vitonhd-16k-512/attention/model.safetensors" in refused(checkpoints, checkpoint="vitonhd")
    assert "There is no VAE at '/nowhere'" in refused(checkpoints, vae="/nowhere")
    assert "multiples of 8" in refused(checkpoints, sizes=((100, 128),))
    (checkpoints / UNET).unlink()
    message = refused(checkpoints)
    assert "has no unet/diffusion_pytorch_model.safetensors or unet/diffusion_pytorch_model.bin" in message


def test_older_spellings_and_half_precision_are_read(checkpoints: Path) -> None:
    """The published VAE's attention is spelt as diffusers did before 0.17; float16 checkpoints are common."""
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if ".mid_block.attentions.0.to_" in name]:
            path, _, rest = name.partition(".to_")
            kind, _, suffix = f"to_{rest}".rpartition(".")
            tensors[f"{path}.{old[kind]}.{suffix}"] = tensors.pop(name)

    edit_tensors(checkpoints / VAE, rename)
    edit_tensors(checkpoints / UNET, lambda tensors: tensors.update({k: v.half() for k, v in tensors.items()}))
    vae = load_vae(read_vae_config(checkpoints / VAE_CONFIG), checkpoints / VAE)
    golden = np.load(GOLDEN / TRACES[0])
    latent = torch.from_numpy(golden["latents_after_step"][-1][:, :, :16])  # the person half
    assert error_of_max(LatentDecoder(vae)(latent).numpy(), golden["decoded"]) <= TOLERANCE

    unet = load_unet(read_unet_config(checkpoints / UNET_CONFIG), checkpoints / UNET, checkpoints / ATTENTION)
    assert {parameter.dtype for parameter in unet.parameters()} == {torch.float32}
    noise_pred = unet(torch.from_numpy(golden["unet_input"][0]), torch.from_numpy(golden["timesteps"][:1]))
    assert error_of_max(noise_pred.numpy(), golden["unet_output"][0]) <= 1e-2


# --- leaving no mess ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_an_existing_target_is_refused_before_any_work(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    elif kind == "folder":
        out.mkdir()
    else:
        out.symlink_to(tmp_path / "nowhere")
    lines: list[str] = []
    with pytest.raises(ExportError, match="exists already"):
        export_bundle(options_for(GOLDEN, out), progress=lines.append)
    assert not lines
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("moment", ["Reading", "Converting the VAE decoder"])
def test_an_interrupted_export_leaves_nothing(tmp_path: Path, moment: str) -> None:
    def interrupt(line: str) -> None:
        if line.startswith(moment):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_bundle(options_for(GOLDEN, tmp_path / "out"), progress=interrupt)
    assert not list(tmp_path.iterdir())


# --- the command and the Hub -------------------------------------------------------------------------------------


def test_help_is_quick_and_missing_torch_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = (
        "import sys, catvton_ov.export.command; print([m for m in ('torch', 'diffusers', 'nncf') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True).stdout == "[]\n"
    )

    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("catvton_ov.export.")]:
        monkeypatch.delitem(sys.modules, name)
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    needed = ["--base", "b", "--vae", "v", "--catvton", "c", "--checkpoint", "mix", "--out", str(tmp_path / "o")]
    args = parser.parse_args(needed)
    with pytest.raises(ExportError, match=r"needs torch.*pip install -r requirements-export\.txt"):
        command.run(args)


@pytest.mark.parametrize("text", ["384", "384x", "x512", "-8x8", "384x512x3", "1e3x512"])
def test_a_size_must_be_two_numbers(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="384x512"):
        command.parse_size(text)


FETCH = """
import json, sys
from catvton_ov.errors import ExportError
from catvton_ov.export.fetch import fetch
wanted = (("unet/config.json",), ("unet/model.safetensors", "unet/model.bin"))
for source in sys.argv[1:]:
    try:
        fetched = fetch(source, wanted, "base model")
        print(json.dumps([fetched.repo, fetched.revision, [path.read_text() for path in fetched.files]]))
    except ExportError as error:
        print(json.dumps(str(error)))
"""


def test_only_what_is_needed_comes_from_the_hub(tmp_path: Path) -> None:
    sha = "0123456789abcdef0123456789abcdef01234567"
    files = {"unet/config.json": b"{}", "unet/model.bin": b"weights", "unet/model.fp16.bin": b"no", "README.md": b"no"}
    with serve({"some/model": (sha, files), "some/other": (sha, {"README.md": b"no"})}) as hub:
        sources = ["some/model", f"some/model@{sha}", "some/other", "some/missing", "some/model@nope"]
        run = subprocess.run(
            [sys.executable, "-c", FETCH, *sources],
            capture_output=True,
            encoding="utf-8",
            check=True,
            env=client_settings(hub.url, tmp_path / "hf"),
            cwd=Path(__file__).parent.parent,
        )
    answers = [json.loads(line) for line in run.stdout.splitlines()]
    assert answers[:2] == [["some/model", sha, ["{}", "weights"]]] * 2
    assert answers[2] == "The base model repository some/other has no unet/config.json."
    assert "no Hub repository 'some/missing'" in answers[3]
    assert answers[4].startswith("some/model has no revision 'nope': choose one ")
    assert set(hub.served) == {"unet/config.json", "unet/model.bin"}
