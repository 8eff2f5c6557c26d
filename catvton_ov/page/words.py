"""The sentences and small pieces of HTML that the page shows."""

from __future__ import annotations

import html

from catvton_ov.bundle import Bundle
from catvton_ov.errors import TryOnError
from catvton_ov.masking.labels import LabelMaps
from catvton_ov.options import TryOnResult, TryOnStep
from catvton_ov.settings import TryOnSettings
from catvton_ov.sources import BUNDLED, Download

TITLE = "Virtual try-on"
LEAD = "Choose a person and a garment, look at what is red (it will be repainted), and press **Try on**."
UNEXPECTED = "Something went wrong on the server; the photos were not kept. Try again, or choose other pictures."
REFUSED = "That did not work"
UNREADABLE = "What was sent could not be read. A picture may be missing, or deleted after its time: add it again."
NOT_OPENED = "This page could not be opened: something went wrong on the server. Reload it, or tell its owner."
NO_EXAMPLE = "There is no such example."
REAL_MODEL = "python app.py --model owner/name"
CATEGORY = {
    "upper": "Upper body",
    "lower": "Lower body",
    "overall": "Dress, whole body",
    "inner": "Under an open coat",
    "outer": "Coat, jacket",
}
PARSING = "Finding the clothes on the photo"
ADJUST_HINT = "Of the mask that was found, in percent of the body's height. Hands, bare feet and the face always stay."
LABELS_HINT = "The parts of the body, and what is worn, as two parsers see it (LIP and ATR)."
WORN = "Somebody wears it on the photo: cut it out"
OUTLINE = "Show what is protected (blue line)"
STEPS_HINT = "Denoising steps: more take longer"
GUIDANCE = "How closely to follow the garment"
GUIDANCE_HINT = "Guidance scale: CatVTON's authors advise 2.5 to 3.5; up to 1 runs the model once a step, not twice"
SAMPLER_HINT = "ddim is the paper's; dpmpp_2m is made for few steps"
SPEED = (("Fast", "fast"), ("Balanced", "balanced"), ("Reference", "reference"))
SPEED_HINT = "Reference is the paper's recipe and takes longest; it sets the steps, guidance and sampler below"
SIZE_HINT = "Of the picture the model makes, in pixels: larger is finer, and takes longer by more than its area"
UNUSED_SIZE = "The model that is chosen does not work at"
SHOWS_PACE = "The first picture shows how quick this machine is."
SEED_HINT = "The same seed and settings give the same picture"
PAINTED_SETTINGS = "The mask of these settings was painted by hand: paint it again."
PERSON_OF_SETTINGS = (
    "These settings mask the clothes of person {}: choose it below the photo when the clothes are found."
)
UNUSED_LINK = "The settings in this link were not used"
VARIANT = "No. {}"
VARIANTS_HINT = "With seeds one apart; each takes nearly the same time"
CONSENT = "By pressing **Try on** you say that everybody on the photos agrees to it."
PHOTO_NOTE = '<div data-place="person" role="status"></div><div data-place="garment" role="status"></div>'
PERSON = ("Largest", "Second", "Third", "No. {}")
TOGETHER = ("Person", "Garment", "Repainted", "Result")


def privacy(keep_seconds: float, share: bool) -> str:
    """What happens to photos, for the foot of the page."""
    minutes = max(1, round(keep_seconds / 60))
    text = (
        f"Photos go to the machine that serves this page and are deleted from its temporary folder after {minutes} min."
    )
    if share:
        text += " They pass through the relay of the provider of this share link."
    return text + " Results say in their metadata that they were made by AI."


def licence(bundle: Bundle) -> str:
    """The model's name and licence, for the foot of the page."""
    manifest = bundle.manifest
    return f'<div class="licence">Model {html.escape(manifest.name)}: {html.escape(manifest.licence)}</div>'


def link(settings: TryOnSettings) -> str:
    """A link to the page with these settings, without any photo."""
    query = html.escape(settings.to_query(), quote=True)
    return f'<a class="share" href="?{query}" target="_blank" rel="noopener">Link to these settings, without photos</a>'


def notice(bundle: Bundle, source: str) -> str:
    """On a first visit what happens to photos; what the model is for, and how to get the real one instead of a demo."""
    welcome = (
        '<div class="welcome">Your photos stay on the machine that serves this page, for a short while, and nobody '
        "else gets them. <button type='button' onclick='greeted()'>Got it</button></div>"
    )
    text = f"{html.escape(bundle.manifest.notice)} Model licence: {html.escape(bundle.manifest.licence)}."
    if source == BUNDLED:
        text += f" For photos, start the app with a converted CatVTON model: <code>{REAL_MODEL}</code>."
    return f'<div class="notice">{welcome}{text}</div>'


def sentence(error: TryOnError) -> str:
    """What an error says, however much of what was sent it repeats."""
    text = str(error)
    return text if len(text) <= 400 else f"{text[:200]} … {text[-180:]}"


def trouble(reason: str) -> str:
    return f'<div class="notice trouble" role="alert">{html.escape(reason)}</div>'


def no_folder(error: OSError) -> str:
    """Why the page cannot keep pictures even for a moment, for the notice and for `/health`."""
    return f"This page cannot write to its folder for pictures ({error.strerror}): its owner has to make room there."


def fetching(download: Download) -> str:
    """The notice while the model is on its way."""
    return f'<div class="notice">{progress(*fetched(download))}</div>'


def fetched(download: Download) -> tuple[str, float]:
    """How far a download is: a line, and from 0 to 1."""
    here, total = (f"{count / 1e6:,.0f}" for count in (download.done, download.total))
    text = f"Fetching the model: {here} of {total} MB"
    if download.seconds_left is not None:
        minutes = round(download.seconds_left / 60)
        text += f", about {minutes} min left" if minutes else ", less than a minute left"
    return text, download.done / max(download.total, 1)


def progress(text: str, done: float) -> str:
    """A line and a bar; `done` from 0 to 1."""
    percent = round(100 * done)
    return (
        f'<div class="status" role="status"><span>{html.escape(text)}</span>'
        f'<div class="bar"><div style="width:{percent}%"></div></div></div>'
    )


def found(maps: LabelMaps) -> str:
    """What the parsers found, where it is not simply one person."""
    if maps.persons == 0:
        text = "No body was recognised; the mask follows the clothes alone. Check it, paint or erase."
    elif maps.persons > 1:
        text = f"{maps.persons} persons were found. Choose whose clothes change; paint or erase to correct."
    else:
        text = "What is red will be repainted. Paint to add, erase to remove."
    return f'<div class="status" role="status"><span>{text}</span></div>'


def size(of: tuple[int, int]) -> str:
    """(width, height) as people write it, and as `size_of` reads it."""
    return f"{of[0]}x{of[1]}"


def duration(seconds: float) -> str:
    """Seconds as people say them: "under 1 s", "8 s", "about 3 min"."""
    if seconds < 1:
        return "under 1 s"
    return f"about {seconds:.0f} s" if seconds < 100 else f"about {seconds / 60:.0f} min"


def picked(number: int, variants: int, seed: int | None) -> str:
    """Which of the variants is shown now."""
    text = f"Variant {number} of {variants} · seed {seed}"
    return f'<div class="status" role="status"><span>{text}</span></div>'


def estimate(seconds: float | None) -> str:
    """How long a picture will take, if this machine has shown it."""
    text = SHOWS_PACE if seconds is None else f"A picture takes {duration(seconds)} on this machine."
    return f'<div class="estimate">{text}</div>'


def step(item: TryOnStep, variant: int, variants: int, left: float) -> str:
    """Progress after a step of one of the variants, counted from 0; `left` are the remaining seconds of all."""
    text = f"Step {item.step} of {item.total}, {duration(left)} left"
    if variants > 1:
        text = f"Variant {variant + 1} of {variants}: {text.lower()}"
    return progress(text, (variant + item.step / item.total) / variants)


def done(result: TryOnResult, number: int = 1, variants: int = 1) -> str:
    """What a try-on, the last of so many that are done, has taken."""
    total = sum(result.seconds.values())
    parts = " · ".join(f"{stage} {seconds:.1f} s" for stage, seconds in result.seconds.items() if seconds >= 0.05)
    which = f"Variant {number} of {variants} done" if variants > 1 else "Done"
    text = f"<b>{which} in {total:.1f} s</b> ({parts}) · seed {result.seed}"
    if variants > 1 and number == variants:
        text += " · choose one of the variants below"
    return f'<div class="status" role="status"><span>{text}</span></div>'
