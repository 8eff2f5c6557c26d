"""A result says that it was made by AI: in its metadata always, in a corner of the picture where that is asked for."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

SENTENCE = "AI-generated: a virtual try-on, not a photo of this person in this garment."
# The IPTC's word for a photo of which generative AI has repainted a part, as an XMP packet says it.
_XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" Iptc4xmpExt:DigitalSourceType='
    '"http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"/></rdf:RDF></x:xmpmeta>'
    '<?xpacket end="r"?>'
)
MARK = {"Description": SENTENCE, "XML:com.adobe.xmp": _XMP}  # PNG text chunks: keyword -> text


def marked(picture: Image.Image, corner: bool = False) -> Image.Image:
    """A copy of an RGB picture whose `info` holds MARK, and nothing else.

    Args:
        corner: also write "AI" into the lower right corner, which changes the pixels there.
    """
    result = picture.copy()
    if corner:
        _write_corner(result)
    result.info = {}
    for key, text in MARK.items():
        result.info[key] = text
    return result


def to_png(picture: Image.Image) -> bytes:
    """A picture as PNG, without metadata but its mark, if it has one."""
    stream = io.BytesIO()
    picture.save(stream, format="PNG", pnginfo=png_info(picture))
    return stream.getvalue()


def png_info(picture: Image.Image) -> PngInfo:
    """What is written into a picture's PNG: the mark, if it has one; nothing else that came with it."""
    info = PngInfo()
    for key, text in MARK.items():
        if picture.info.get(key) == text:
            info.add_text(key, text)  # the packet as iTXt, for its first letter
    return info


def _write_corner(picture: Image.Image) -> None:
    """White on a dark plate, as high as a thirtieth of the picture's shorter side and no less than 10 pixels."""
    points = max(min(picture.size) / 30, 10.0)
    font = ImageFont.load_default(points)
    pad = round(points / 3)
    left, top, right, bottom = font.getbbox("AI")
    width, height = round(right - left) + 2 * pad, round(bottom - top) + 2 * pad
    place = (picture.width - width - pad, picture.height - height - pad)
    plate = Image.new("RGB", (width, height), (30, 30, 30))
    ImageDraw.Draw(plate).text((pad - left, pad - top), "AI", fill="white", font=font)
    picture.paste(plate, place)
