/**
 * Convert strokes to an image like MNIST's: 28 x 28 grey levels, ink 255 on background 0.
 *
 * The normalisation is MNIST's (LeCun et al. 1998, section III.A): the bounding box of the ink is scaled to 20 x 20 with
 * its aspect ratio, and its centre of mass is placed in the middle of the image. The strokes are scaled before they are
 * rasterised, so the line is as wide as MNIST's for drawings of any size.
 *
 * A stroke is a list of points [x, y] in fractions of the pad, from [0, 0] at the top left to [1, 1].
 */

export const SIDE = 28;

/** Longest side of the bounding box of the ink, in pixels. */
const BOX = 20;

/** Width of the pen in pixels: the median over MNIST's training images, measured on their ridges. */
const PEN = 2.6;

/** Position of the centre of mass: in MNIST, the middle of pixel 14, counted from 0. */
const MIDDLE = 14.5;

/** Size of a drawing, as a fraction of the pad, below which the scale is not increased further: a dot stays a dot. */
const SMALLEST = 0.1;

/** Rasterise strokes: 784 bytes, row by row. */
export function asMnist(strokes) {
  const [left, right] = extent(strokes, 0);
  const [top, bottom] = extent(strokes, 1);
  const scale = (BOX - PEN) / Math.max(right - left, bottom - top, SMALLEST);
  const placed = (x, y) =>
    strokes.map((stroke) =>
      stroke.map((point) => [
        x + (point[0] - (left + right) / 2) * scale,
        y + (point[1] - (top + bottom) / 2) * scale,
      ]),
    );
  const [massX, massY] = centreOfMass(inked(placed(SIDE / 2, SIDE / 2)));
  return inked(placed(inside(SIDE / 2 + MIDDLE - massX), inside(SIDE / 2 + MIDDLE - massY)));
}

/** Split pixels into a list of rows, the server's input format. */
export function rows(pixels) {
  return Array.from({ length: SIDE }, (_, row) => Array.from(pixels.subarray(row * SIDE, (row + 1) * SIDE)));
}

function extent(strokes, axis) {
  const values = strokes.flat().map((point) => point[axis]);
  return [Math.min(...values), Math.max(...values)];
}

/** Clamp the centre of the box so that the whole box stays in the image. */
function inside(middle) {
  return Math.min(Math.max(middle, BOX / 2), SIDE - BOX / 2);
}

/** Rasterise strokes in pixel coordinates, with an anti-aliased edge of one pixel. */
function inked(strokes) {
  const pixels = new Uint8ClampedArray(SIDE * SIDE);
  const segments = strokes.flatMap((stroke) => stroke.map((end, i) => [stroke[Math.max(i - 1, 0)], end]));
  for (let row = 0; row < SIDE; row++) {
    for (let column = 0; column < SIDE; column++) {
      let nearest = Infinity;
      for (const [start, end] of segments) {
        nearest = Math.min(nearest, squaredDistance(column + 0.5, row + 0.5, start, end));
      }
      pixels[row * SIDE + column] = 255 * (PEN / 2 + 0.5 - Math.sqrt(nearest)); // the array rounds and clamps to 0..255
    }
  }
  return pixels;
}

/** Compute the squared distance of the point (x, y) from the segment between two points. */
function squaredDistance(x, y, [startX, startY], [endX, endY]) {
  const [alongX, alongY] = [endX - startX, endY - startY];
  const length = alongX * alongX + alongY * alongY;
  const share = length === 0 ? 0 : ((x - startX) * alongX + (y - startY) * alongY) / length;
  const nearest = Math.min(Math.max(share, 0), 1);
  const [awayX, awayY] = [x - startX - nearest * alongX, y - startY - nearest * alongY];
  return awayX * awayX + awayY * awayY;
}

/** Compute the centre of mass of the ink, in pixels from the top left corner. */
function centreOfMass(pixels) {
  let [ink, sumX, sumY] = [0, 0, 0];
  pixels.forEach((value, index) => {
    ink += value;
    sumX += value * ((index % SIDE) + 0.5);
    sumY += value * (Math.floor(index / SIDE) + 0.5);
  });
  return [sumX / ink, sumY / ink];
}
