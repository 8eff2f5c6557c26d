"""CatVTON virtual try-on on OpenVINO: a person, a garment and a mask in, the person wearing it out.

from catvton_ov.pipeline import TryOnPipeline

pipeline = TryOnPipeline.load("paper_doll")
result = pipeline(person, garment, mask)
"""

from catvton_ov.privacy import silence_telemetry

silence_telemetry()
