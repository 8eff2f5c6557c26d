"""Pictures nobody should send, made by code: name of the case -> (file name, content)."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import Image, PngImagePlugin

Files = dict[str, tuple[str, bytes]]


def encode(picture: Image.Image, kind: str, **save: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **save)
    return stream.getvalue()


def heic(picture: Image.Image) -> bytes:
    """As an iPhone saves it."""
    pillow_heif.register_heif_opener()
    return encode(picture, "HEIF")


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, content: bytes, depth: int = 8, colour: int = 0, *extra: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(content, 1)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + body


def tiff(width: int, height: int, strip: bytes, next_directory: int = 0, compression: int = 8) -> bytes:
    """One gray strip; `next_directory` is the offset of what follows the only directory."""
    tags = {256: width, 257: height, 258: 8, 259: compression, 262: 1, 273: 8, 277: 1, 278: height, 279: len(strip)}
    place = 8 + len(strip)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", next_directory)
    return struct.pack("<2sHI", b"II", 42, place) + strip + directory


def leaking_tiff(width: int, height: int, rows: int = 8) -> bytes:
    """A TIFF whose only strip, a JPEG, has fewer rows than it says: Pillow below 13 shows old memory in the others."""
    strip = encode(Image.new("RGB", (width, rows)), "JPEG", subsampling=0, keep_rgb=True)
    place = 8 + len(strip) + 6
    tags = {256: width, 257: height, 258: 8 + len(strip), 259: 7, 262: 2, 273: 8, 277: 3, 278: height, 279: len(strip)}
    entries = b"".join(
        struct.pack("<HHII", tag, 3 if tag == 258 else 4, 3 if tag == 258 else 1, value) for tag, value in tags.items()
    )
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return struct.pack("<2sHI", b"II", 42, place) + strip + struct.pack("<HHH", 8, 8, 8) + directory


def exif_bomb(entries: int, length: int) -> bytes:
    """A small PNG whose EXIF has so many entries that all mean the same bytes: each is copied when it is read."""
    place = 8 + 2 + 12 * entries + 4
    directory = b"".join(struct.pack(">HHII", tag + 1, 1, length, place) for tag in range(entries))
    exif = b"MM\0*" + struct.pack(">IH", 8, entries) + directory + bytes(4 + length)
    return png(64, 64, bytes(64 * 65), 8, 0, chunk(b"eXIf", exif))


def bombs() -> Files:
    """Small files that promise, or hold, very many pixels or very much text."""
    zeros = bytes(10_000_000)
    webp = bytearray(encode(Image.new("RGB", (16, 16)), "WEBP", lossless=True))
    webp[21:25] = struct.pack("<I", 16382 | 16382 << 14)
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(zeros))
    profile = chunk(b"iCCP", b"icc\0\0" + zlib.compress(zeros))
    gif = struct.pack("<6sHHBBB", b"GIF89a", 65535, 65535, 0, 0, 0)
    jpeg = encode(Image.new("L", (16, 16)), "JPEG").replace(
        struct.pack(">HH", 16, 16), struct.pack(">HH", 65000, 65000)
    )
    jp2 = encode(Image.new("L", (32, 32)), "JPEG2000").replace(
        struct.pack(">IIIIIIII", 32, 32, 0, 0, 32, 32, 0, 0), struct.pack(">IIIIIIII", *(10**6, 10**6, 0, 0) * 2)
    )
    bmp = encode(Image.new("L", (16, 16)), "BMP").replace(struct.pack("<II", 16, 16), struct.pack("<II", 10**5, 10**5))
    return {
        "PNG that holds 400 megapixels": ("bomb.png", png(20_000, 20_000, bytes(20_000 * 2_501), depth=1)),
        "PNG that promises 60,000 squared": ("bomb.png", png(60_000, 60_000, b"")),
        "PNG of 2**31 by 2**31": ("bomb.png", png(2**31 - 1, 2**31 - 1, b"")),
        "PNG with 10 MB of packed text": ("text.png", png(64, 64, bytes(64 * 65), 8, 0, text)),
        "PNG with a 10 MB colour profile": ("icc.png", png(64, 64, bytes(64 * 65), 8, 0, profile)),
        "WebP that promises 16,383 squared": ("bomb.webp", bytes(webp)),
        "GIF that promises 65,535 squared": ("bomb.gif", gif + b"\x2c" + bytes(9) + b"\x02\x00;"),
        "JPEG that promises 65,000 squared": ("bomb.jpg", jpeg),
        "JPEG 2000 that promises a million squared": ("bomb.jp2", jp2),
        "BMP that promises 100,000 squared": ("bomb.bmp", bmp),
        "TIFF that promises 90,000 squared": ("bomb.tif", tiff(90_000, 90_000, zlib.compress(zeros))),
        "TIFF that holds 100 megapixels": ("bomb.tif", tiff(10_000, 10_000, zlib.compress(zeros * 10, 1))),
    }


def liars(photo: Image.Image) -> Files:
    """Files that are something else than they seem, or several things at once, and damaged ones."""
    good = encode(photo, "PNG")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("../../evil.txt", "x")
    html = b"<html><script>alert(1)</script></html>"
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    looping = tiff(64, 64, zlib.compress(bytes(64 * 64)))
    return {
        "SVG": ("drawing.svg", svg),
        "SVG named PNG": ("drawing.png", svg),
        "PNG named SVG": ("drawing.svg", good),
        "HTML named JPEG": ("page.jpg", html),
        "HTML": ("page.html", html),
        "PDF": ("paper.pdf", b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>"),
        "PostScript": ("print.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n(%pipe%id) (w) file\n"),
        "archive": ("files.zip", packed.getvalue()),
        "gzip bomb": ("files.gz", gzip.compress(bytes(20_000_000))),
        "a megabyte of nothing": ("zeros.png", bytes(1_000_000)),
        "empty": ("empty.jpg", b""),
        "one byte": ("one.jpg", b"\xff"),
        "PNG and archive in one": ("both.png", good + packed.getvalue()),
        "GIF and script in one": ("both.gif", b"GIF89a/*" + bytes(20) + b"*/=1;alert(1)//"),
        "PNG with HTML in its text": ("text.png", encode(photo, "PNG", pnginfo=_text("Title", html.decode()))),
        "PNG of a wrong checksum": ("crc.png", good[:20] + bytes([good[20] ^ 1]) + good[21:]),
        "PNG of no size": ("none.png", png(0, 0, b"")),
        "PNG of an unknown colour type": ("colour.png", png(64, 64, bytes(64 * 65), 8, 5)),
        "PNG whose pixels are not packed": ("raw.png", good[:60] + b"\0" * 400 + good[460:]),
        "PNG with too few pixels": ("few.png", png(400, 400, bytes(401 * 100))),
        "TIFF whose directories go in a circle": ("loop.tif", looping[:-4] + looping[4:8]),
        "two pages of TIFF": ("pages.tif", encode(photo, "TIFF", save_all=True, append_images=[photo])),
        "TIFF of an unknown compression": ("odd.tif", tiff(64, 64, bytes(4096), compression=60000)),
        "JPEG with a damaged EXIF block": ("exif.jpg", encode(photo, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")),
        "ICO": ("icon.ico", encode(photo.resize((64, 64)), "ICO")),
    }


def unusual(photo: Image.Image) -> Files:
    """Real pictures of kinds that a camera does not make; all of them may be tried on."""
    turned = photo.getexif()
    turned[0x0112] = 6  # to be turned by 90 degrees
    turned[0x010F] = "secret camera"
    gray = np.asarray(photo.convert("L"))
    frames = [photo.rotate(angle) for angle in (10, 20, 30)]
    return {
        "16-bit gray PNG": ("deep.png", encode(Image.fromarray(gray.astype(np.uint16) * 257), "PNG")),
        "1-bit PNG": ("bits.png", encode(photo.convert("1"), "PNG")),
        "palette with transparency": ("palette.png", encode(photo.convert("P"), "PNG", transparency=3)),
        "CMYK JPEG": ("print.jpg", encode(photo.convert("CMYK"), "JPEG")),
        "progressive JPEG": ("web.jpg", encode(photo, "JPEG", progressive=True)),
        "JPEG that lies on its side": ("side.jpg", encode(photo, "JPEG", exif=turned)),
        "animated GIF": ("film.gif", encode(photo, "GIF", save_all=True, append_images=frames)),
        "animated WebP": ("film.webp", encode(photo, "WEBP", save_all=True, append_images=frames)),
        "animated PNG": ("film.png", encode(photo, "PNG", save_all=True, append_images=frames)),
        "AVIF": ("new.avif", encode(photo, "AVIF")),
        "HEIC": ("phone.heic", heic(photo)),
        "all transparent": ("clear.png", encode(Image.new("RGBA", photo.size), "PNG")),
    }


def extremes() -> Files:
    """Real pictures of sizes that no photo has."""
    sizes = {"1x1": (1, 1), "1x20,000": (1, 20_000), "20,000x1": (20_000, 1), "16x4,000": (16, 4_000)}
    return {name: ("size.png", encode(Image.new("RGB", size), "PNG")) for name, size in sizes.items()}


def cut(photo: Path) -> Files:
    """A photo cut off at every kilobyte."""
    content = photo.read_bytes()
    return {f"cut off at {place} bytes": ("cut.png", content[:place]) for place in range(0, len(content) - 64, 1024)}


def names(photo: Image.Image) -> Files:
    """A good photo under names that are not."""
    content = encode(photo, "PNG")
    return {
        "path upwards": ("../../../../etc/cron.d/evil.png", content),
        "path upwards, encoded": ("..%2f..%2fevil.png", content),
        "Windows path": ("..\\..\\evil.png", content),
        "absolute path": ("/etc/passwd", content),
        "Unicode": ("платье 👗 ドレス.png", content),
        "right to left": ("\u202egnp.exe", content),
        "300 letters": ("n" * 300 + ".png", content),
        "no suffix": ("photo", content),
        "markup": ("<img src=x onerror=alert(1)>.png", content),
        "dots": ("...", content),
    }


def _text(key: str, value: str) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text(key, value)
    return info
