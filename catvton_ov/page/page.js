// In the visitor's browser: large photos are shrunk before they are sent, results outlive a reload of the page (the names
// of their files are kept for as long as the tab is open), and a greeting is shown once.
(() => {
  const MOST = 2048; // pixels of the longer side that is sent
  const PLACES = { person: "photo of the person", garment: "photo of the garment" };

  const note = (place, text) => {
    const line = document.querySelector(`#photo-note [data-place="${place}"]`);
    if (line) line.textContent = text;
  };

  // The file itself where it is small enough, or is no picture (the server says so in words).
  const fitted = async (file, place) => {
    note(place, "");
    let picture;
    try {
      picture = await createImageBitmap(file); // upright, as EXIF says
    } catch {
      note(place, `This browser cannot show the ${PLACES[place]}: if nothing appears, save it as JPEG or PNG.`);
      return file;
    }
    const { width, height } = picture;
    const scale = MOST / Math.max(width, height);
    if (scale >= 1) return file;
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(width * scale));
    canvas.height = Math.max(1, Math.round(height * scale));
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(picture, 0, 0, canvas.width, canvas.height);
    picture.close();
    const kind = file.type === "image/jpeg" ? "image/jpeg" : "image/png";
    const content = await new Promise((done) => canvas.toBlob(done, kind, 0.95));
    if (!content) return file;
    note(place, `The ${PLACES[place]} had ${width} × ${height} pixels; it is used with ${canvas.width} × ${canvas.height}.`);
    return new File([content], file.name, { type: kind });
  };

  const placeOf = (element) => element.closest?.("#person, #garment")?.id;

  const hand = async (input, files, place) => {
    const transfer = new DataTransfer();
    for (const file of files) transfer.items.add(await fitted(file, place));
    if (place === "person") document.querySelector("#new-photo")?.click();
    input.files = transfer.files;
    const again = new Event("change", { bubbles: true });
    again.fitted = true;
    input.dispatchEvent(again);
  };

  document.addEventListener("change", (event) => {
    const place = placeOf(event.target);
    if (!place || event.fitted || event.target.type !== "file" || !event.target.files.length) return;
    event.stopImmediatePropagation();
    hand(event.target, [...event.target.files], place);
  }, true);

  document.addEventListener("drop", (event) => {
    const place = placeOf(event.target);
    const files = [...(event.dataTransfer?.files ?? [])];
    const input = place && document.querySelector(`#${place} input[type=file]`);
    if (!input || !files.length) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    hand(input, files.slice(0, 1), place);
  }, true);

  document.addEventListener("click", (event) => {
    const strip = event.target.closest?.("#persons, #garments");
    if (strip) note(strip.id === "persons" ? "person" : "garment", ""); // it was about another photo
    const tool = event.target.closest?.("#person button[aria-label]");
    if (tool && /clear canvas|paste/i.test(tool.ariaLabel)) document.querySelector("#new-photo")?.click();
    if (tool && /brush|erase/i.test(tool.ariaLabel)) document.querySelector("#person").classList.add("painting");
  }, true);

  const KEPT = "catvton-ov results";
  const SAME = { __type__: "update" }; // leaves a component as it is

  window.keepResults = (beforeAfter, together, variants, shown) => {
    if (!beforeAfter?.[1] || !shown) return;
    try { sessionStorage.setItem(KEPT, JSON.stringify({ beforeAfter, together, variants, shown })); } catch { /* full */ }
  };

  const isThere = (file) => fetch(file.url, { method: "HEAD" }).then((answer) => answer.ok, () => false);

  // The result, before and after, all together, the variants, what they were made with, the status; or nothing.
  window.keptResults = async () => {
    const nothing = Array(6).fill(SAME);
    try {
      const kept = JSON.parse(sessionStorage.getItem(KEPT));
      if (!kept) return nothing;
      const files = [...kept.beforeAfter, ...[...kept.together, ...kept.variants].map((item) => item.image)];
      if ((await Promise.all(files.map(isThere))).every(Boolean)) return shownAgain(kept);
      sessionStorage.removeItem(KEPT); // their time is over
    } catch { /* private windows, or what another page has left */ }
    return nothing;
  };

  const shownAgain = ({ beforeAfter, together, variants, shown }) => {
    const gallery = { ...SAME, value: variants, visible: variants.length > 1 };
    const status = '<div class="status" role="status"><span>Your last result, from before the page was reloaded.</span></div>';
    return [beforeAfter[1], beforeAfter, together, gallery, shown, status];
  };

  const seen = () => document.documentElement.classList.add("greeted");
  window.greeted = () => {
    seen();
    try { localStorage.setItem("greeted", "1"); } catch { /* greeted again next time */ }
  };
  try { if (localStorage.getItem("greeted")) seen(); } catch { /* private windows */ }
})();
