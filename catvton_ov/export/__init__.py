"""From the published checkpoints to a bundle. The only room that knows torch and diffusers.

    fetch.py         a folder or a Hub id -> a folder
    configs.py       the JSON files beside the weights: read, and held to what this program can run
    checkpoints.py   tensors out of files, safely, and strictly compared with what a model needs
    unet.py          the base UNet without cross-attention, with CatVTON's self-attention
    vae.py           the VAE's two halves
    safety.py        Stable Diffusion's safety checker
    schp.py          the parsers of the auto-mask: SCHP,
    densepose.py     and DensePose (densepose_layers.py, and pickles.py, which reads its checkpoint)
    parsers.py       the two of them
    convert.py       a torch module -> OpenVINO IR
    options.py       what may be asked for
    build.py         all of it in order -> a bundle
    calibration.py   denoising runs for the quantizer and the report
    quantize.py      NNCF's recipes for the UNet
    extras.py        8-bit weights for what is around it
    int8.py          a float bundle -> an INT8 bundle
    report.py        what was made, measured
    card.py          the model card, and the Space's README
    publish.py       a bundle -> the Hub
    *command.py      `python -m catvton_ov export | report | publish`

Importing this package imports no torch; `build` does. Needs requirements-export.txt.
"""
