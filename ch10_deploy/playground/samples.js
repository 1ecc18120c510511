/** Example strokes of the ten digits. */

/** Corners of each stroke in hundredths of the pad; a smooth curve connects them. */
const CORNERS = [
  [[[56, 14], [36, 22], [25, 50], [32, 78], [50, 87], [68, 76], [75, 48], [66, 22], [52, 13]]],
  [[[55, 13], [51, 50], [47, 88]]],
  [[[27, 30], [38, 15], [58, 14], [69, 29], [60, 48], [42, 67], [24, 85]], [[24, 85], [50, 84], [77, 85]]],
  [[[28, 18], [50, 11], [68, 22], [62, 39], [43, 47]], [[43, 47], [67, 54], [72, 73], [54, 88], [26, 81]]],
  [[[36, 13], [30, 34], [23, 54]], [[23, 54], [50, 54], [78, 51]], [[66, 14], [63, 50], [60, 89]]],
  [[[72, 14], [36, 15]], [[36, 15], [30, 46]], [[30, 46], [52, 41], [71, 54], [70, 74], [50, 88], [26, 80]]],
  [[[63, 11], [43, 29], [29, 55], [32, 79], [50, 88], [67, 77], [66, 61], [50, 54], [33, 66]]],
  [[[24, 17], [50, 16], [76, 15]], [[76, 15], [60, 48], [46, 88]]],
  [[[66, 23], [50, 12], [34, 22], [38, 38], [58, 53], [69, 72], [52, 88], [33, 75], [41, 55], [62, 38], [66, 23]]],
  [[[67, 32], [53, 14], [35, 22], [33, 42], [49, 50], [64, 40], [67, 26]], [[67, 26], [65, 58], [57, 89]]],
];

/** Number of points between two corners. */
const STEPS = 8;

/** Return the strokes of a digit, in the format of mnist.js. */
export function strokesOf(digit) {
  return CORNERS[digit].map((corners) => curve(corners.map(([x, y]) => [x / 100, y / 100])));
}

/** Sample a Catmull-Rom curve: the tangent at a corner is parallel to the line between its neighbours. */
function curve(corners) {
  const corner = (index) => corners[Math.min(Math.max(index, 0), corners.length - 1)];
  const points = [corners[0]];
  for (let index = 0; index + 1 < corners.length; index++) {
    const [before, start, end, after] = [-1, 0, 1, 2].map((offset) => corner(index + offset));
    for (let step = 1; step <= STEPS; step++) {
      const t = step / STEPS;
      const blend = (axis) =>
        ((2 * t - 3) * t * t + 1) * start[axis] +
        (3 - 2 * t) * t * t * end[axis] +
        ((t - 2) * t + 1) * t * ((end[axis] - before[axis]) / 2) +
        (t - 1) * t * t * ((after[axis] - start[axis]) / 2);
      points.push([blend(0), blend(1)]);
    }
  }
  return points;
}
