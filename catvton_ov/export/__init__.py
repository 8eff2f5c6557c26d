"""From the published checkpoints to a bundle. The only room that knows torch and diffusers.

    fetch.py         a folder or a Hub id -> a folder
    configs.py       the JSON files beside the weights: read, and held to what this program can run
    checkpoints.py   tensors out of files, safely, and strictly compared with what a model needs
    unet.py          the base UNet without cross-attention, with CatVTON's self-attention
    vae.py           the VAE's two halves
    convert.py       a torch module -> OpenVINO IR
    options.py       what may be asked for
    build.py         all of it in order -> a bundle
    command.py       `python -m catvton_ov export`

Importing this package imports no torch; `build` does. Needs requirements-export.txt.
"""
