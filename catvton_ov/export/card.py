"""The texts of a published model and its Space: the model card, and the Space's README with its header.

Fields of the headers: https://huggingface.co/docs/hub/model-cards and .../spaces-config-reference.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from huggingface_hub import ModelCardData, SpaceCard

from catvton_ov.bundle import Manifest, Source

LICENCES = {"CC BY-NC-SA 4.0": "cc-by-nc-sa-4.0", "Apache-2.0": "apache-2.0"}  # how a licence begins -> the Hub's name

# Role of a source -> the repository whose weights a local folder in that role holds, or is derived from.
PUBLISHED = {
    "base": "booksforcharlie/stable-diffusion-inpainting",
    "vae": "stabilityai/sd-vae-ft-mse",
    "catvton": "zhengchong/CatVTON",
}

# What a licence among the sources asks of whoever passes the weights on.
CONDITIONS = {
    "CC BY-NC-SA 4.0": (
        "CatVTON's weights are under [CC BY-NC-SA 4.0](https://creativecommons.org/licenses/by-nc-sa/4.0/): "
        "**no commercial use**, credit to its authors, and the same licence for what is made of them."
    ),
    "CreativeML OpenRAIL-M": (
        "Stable Diffusion's weights are under "
        "[CreativeML OpenRAIL-M](https://huggingface.co/spaces/CompVis/stable-diffusion-license), whose use "
        "restrictions (Attachment A) bind everyone who uses this model or passes it on: among them nothing unlawful, "
        "nothing that harms, exploits, defames or harasses people, nothing that harms minors."
    ),
}

# How the names of parts begin -> whom they are owed to.
CREDITS = {
    "densepose": (
        "DensePose R50-FPN, by R. A. Güler, N. Neverova and I. Kokkinos ([arXiv 1802.00434](https://arxiv.org/abs/"
        "1802.00434)), from Meta's detectron2: [CC BY-SA 3.0](https://creativecommons.org/licenses/by-sa/3.0/), "
        "converted to OpenVINO and quantized where that is said here."
    ),
    "schp": (
        "SCHP, Self-Correction for Human Parsing, by P. Li and others "
        "([arXiv 1910.09777](https://arxiv.org/abs/1910.09777)): MIT."
    ),
}


def model_card(manifest: Manifest, repo: str, report: str | None = None) -> str:
    """The README.md of a published bundle.

    Args:
        repo: where it is published, "owner/name".
        report: Markdown, what was measured.
    """
    sections = [
        f"# {repo.partition('/')[2]}",
        manifest.notice,
        _about(manifest),
        "## Use",
        _use(repo),
        "## Licence and credits",
        *_licence(manifest),
        "## Made from",
        _table(("for", "weights", "revision", "licence"), (_source_row(source) for source in manifest.sources)),
    ]
    if manifest.quantization:
        sections += ["## Quantization", _table(("parameter", "value"), _flat(manifest.quantization))]
    if report:
        sections += ["## Quality, size and speed", report.strip()]
    return f"---\n{_model_header(manifest).to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n"


def _model_header(manifest: Manifest) -> ModelCardData:
    quantized = manifest.precision == "int8"
    base_models = list(dict.fromkeys(filter(None, map(_base_model, manifest.sources))))
    licence = next((name for text, name in LICENCES.items() if manifest.licence.startswith(text)), "other")
    header = ModelCardData(
        license=licence,
        license_name=re.sub(r"[^a-z0-9.]+", "-", manifest.licence.lower()) if licence == "other" else None,
        base_model=base_models or None,
        pipeline_tag="image-to-image",
        library_name="openvino",
        tags=["openvino", *(["nncf"] if quantized else []), "virtual-try-on", "catvton"],
    )
    if base_models and quantized:
        header["base_model_relation"] = "quantized"
    return header


def _base_model(source: Source) -> str | None:
    return source.repo if _from_hub(source) else PUBLISHED.get(source.role)


def _about(manifest: Manifest) -> str:
    sizes = ", ".join(f"{width}×{height}" for width, height in manifest.sizes)
    size = sum(record.bytes for record in manifest.files.values())
    return (
        "A virtual try-on model, after [CatVTON](https://arxiv.org/abs/2407.15886): it puts the garment of one picture "
        "on the person of another. It is stored as OpenVINO IR for the app and library *CatVTON OpenVINO* "
        f"(`catvton_ov`), to be run on ordinary CPUs without PyTorch.\n\n"
        f"Weights: {manifest.precision}. Sizes: {sizes} pixels. Parts: {', '.join(manifest.parts)}. "
        f"All files: {size / 1e6:,.1f} MB. Bundle format: {manifest.format_version}."
    )


def _use(repo: str) -> str:
    return f"""In a checkout of CatVTON OpenVINO, with its `requirements.txt` installed, the page:

```sh
CATVTON_OV_MODEL={repo} python app.py
```

or from Python:

```python
from PIL import Image
from catvton_ov.pipeline import TryOnPipeline

pipeline = TryOnPipeline.load("{repo}")
result = pipeline(Image.open("person.jpg"), Image.open("garment.jpg"), Image.open("mask.png"))
result.picture.save("result.png")
```

Write `{repo}@COMMIT`, with the full commit from this repository's history, to stay with one version. Only the files
that `manifest.json` lists are downloaded, once, and each is held to its SHA-256."""


def _licence(manifest: Manifest) -> Iterator[str]:
    yield f"{manifest.licence}."
    licences = " ".join([manifest.licence, *(source.licence for source in manifest.sources)])
    yield from (text for name, text in CONDITIONS.items() if name in licences)
    yield from (text for part, text in CREDITS.items() if any(name.startswith(part) for name in manifest.parts))


def _source_row(source: Source) -> tuple[str, str, str, str]:
    link = f"[{source.repo}](https://huggingface.co/{source.repo})" if _from_hub(source) else source.repo
    return source.role, link, source.revision, source.licence


def _from_hub(source: Source) -> bool:
    """Whether the weights came from the Hub: then their revision is a commit."""
    return re.fullmatch(r"[0-9a-f]{40}", source.revision) is not None


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested parameters as rows: {"a": {"b": 1}} is ("a.b", "1")."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def space_card(project_readme: str, manifest: Manifest, repo: str, commit: str, preload: bool) -> str:
    """The README.md of a Space that serves the bundle.

    Args:
        project_readme: the README.md of this project, whose header is taken over.
        repo: "owner/name" of the published model.
        commit: the one to serve, 40 hexadecimal digits.
        preload: whether the files are fetched when the Space is built (the Hub cannot do that for private models).
    """
    card = SpaceCard(project_readme)
    card.data["models"] = [repo]
    card.data["startup_duration_timeout"] = "1h"  # the default, 30 min, may be short where a private model is fetched
    if preload:
        # Files are separated by commas and end at a space: one whose name holds either is fetched at the first start.
        files = [name for name in ("manifest.json", *manifest.files) if not re.search(r"[\s,]", name)]
        card.data["preload_from_hub"] = [f"{repo} {','.join(files)} {commit}"]
    card.text = f"""
# {card.data.get("title")}

Put the garment of one picture on the person of another, without a GPU. {manifest.notice}

The model is [{repo}](https://huggingface.co/{repo}) at commit `{commit}`, under this licence: {manifest.licence}.
The app is under Apache-2.0.
"""
    return str(card)
