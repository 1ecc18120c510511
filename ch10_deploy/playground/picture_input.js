/** Choose or drop a picture, or take one of the server's examples; for the tabs whose network takes whole pictures. */

import { Refused, connected, newest, request } from "./api.js";
import { withNotice } from "./elements.js";

/** Larger pictures are reduced to this number of pixels per side, which all networks accept. */
const MOST_PIXELS = 512;

/** Maximum size of the file that is sent, in bytes; the server accepts requests of 256 KiB. */
const MOST_BYTES = 240_000;

/** Formats in which a picture is sent: the first that is small enough. */
const FORMATS = [["image/png"], ["image/jpeg", 0.9], ["image/jpeg", 0.5]];

/**
 * Call `show(picture, form, signal)` for each picture that the user chooses, and for an example at the start: with a
 * canvas, and the form that sends its pixels. Pictures are processed one at a time.
 */
export function pictureInput(panel, model, show) {
  const input = panel.querySelector("[type=file]");
  let number = 0;
  const load = newest((open, signal) =>
    withNotice(panel, async () => {
      const file = await open(signal);
      const bitmap = await createImageBitmap(file).catch(() => null);
      if (!bitmap) throw new Refused(0, "This browser cannot read that file as a picture.");
      const picture = reduced(bitmap);
      const form = new FormData();
      form.append("file", await encoded(picture), "picture");
      await show(picture, form, signal);
    }),
  );
  const take = (file) => file && load(() => file);
  const example = () => {
    const query = new URLSearchParams({ model, number: number++ });
    load(async (signal) => connected((await request(`example?${query}`, undefined, signal)).blob()));
  };
  input.addEventListener("change", () => take(input.files[0]));
  panel.querySelector(".another").addEventListener("click", example);
  dropTarget(panel, take);
  example();
}

/** Let files be dropped anywhere on an element; without this, the browser would leave the page to show the file. */
function dropTarget(place, take) {
  const mark = (over) => place.classList.toggle("dropping", over);
  place.addEventListener("dragover", (event) => {
    event.preventDefault();
    mark(true);
  });
  place.addEventListener("dragleave", (event) => mark(place.contains(event.relatedTarget)));
  place.addEventListener("drop", (event) => {
    event.preventDefault();
    mark(false);
    take(event.dataTransfer.files[0]);
  });
}

/** Draw a picture on a canvas of at most MOST_PIXELS per side, on white if it is transparent. */
function reduced(bitmap) {
  const scale = Math.min(1, MOST_PIXELS / Math.max(bitmap.width, bitmap.height));
  const picture = document.createElement("canvas");
  picture.width = Math.max(1, Math.round(scale * bitmap.width));
  picture.height = Math.max(1, Math.round(scale * bitmap.height));
  const context = picture.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, picture.width, picture.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, picture.width, picture.height);
  return picture;
}

/** Encode a picture as a file of at most MOST_BYTES, without loss if possible. */
async function encoded(picture) {
  let file = null;
  for (const [kind, quality] of FORMATS) {
    file = await new Promise((done) => picture.toBlob(done, kind, quality));
    if (file.size <= MOST_BYTES) break;
  }
  return file;
}
