(() => {
"use strict";
// Every figure can be saved as it is shown; one of ours also as SVG and CSV, which its PNG holds as
// compressed texts (experiments/figures/style.py, `png`).
const TYPES = { SVG: "image/svg+xml", CSV: "text/csv" };

/** The text of a PNG under a keyword: an chunk of type iTXt (PNG, third edition, section 11.3.3.4). */
async function text(address, keyword) {
  const bytes = Uint8Array.from(atob(address.slice(address.indexOf(",") + 1)), (c) => c.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const words = (from, to) => new TextDecoder("latin1").decode(bytes.subarray(from, to));
  for (let at = 8; at + 12 <= bytes.length; at += 12 + view.getUint32(at)) {
    const start = at + 8, end = start + view.getUint32(at);
    if (words(at + 4, start) !== "iTXt") continue;
    const name = bytes.indexOf(0, start);
    if (words(start, name) !== keyword) continue;
    const language = bytes.indexOf(0, name + 3), translated = bytes.indexOf(0, language + 1);
    const packed = new Blob([bytes.subarray(translated + 1, end)]);
    return new Response(packed.stream().pipeThrough(new DecompressionStream("deflate"))).blob();
  }
  throw new Error(`the picture holds no ${keyword}`);
}

for (const link of document.querySelectorAll("a.save")) {
  const picture = link.closest("figure").querySelector("img");
  const kind = link.download.split(".").at(-1).toUpperCase();
  const held = picture.src.startsWith("data:image/png") && kind in TYPES;
  if (held && !window.DecompressionStream) continue;
  link.hidden = false;
  link.href = picture.src;
  if (!held) continue;
  link.addEventListener("click", async (event) => {
    event.preventDefault();
    const found = await text(picture.src, kind);
    const address = URL.createObjectURL(new Blob([found], { type: TYPES[kind] }));
    Object.assign(document.createElement("a"), { href: address, download: link.download }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  });
}
})();
