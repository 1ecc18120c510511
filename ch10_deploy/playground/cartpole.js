/**
 * Equations of motion of a cart with a pole: those of gymnasium's CartPole-v1 (Barto, Sutton & Anderson 1983).
 *
 * A state is [x, v, theta, omega]: position of the cart in m and its velocity, angle of the pole in rad (0 is upright,
 * positive leans to the right) and its angular velocity.
 */

/** Gravity in m/s^2, mass of the pole and of cart and pole together in kg, and half the length of the pole in m. */
const [g, m, M, l] = [9.8, 0.1, 1.0 + 0.1, 0.5];

/** Force of an action, in N. */
const FORCE = 10;

/** Duration of a step, in seconds. */
export const TAU = 0.02;

/** An episode ends if the cart is further from the middle than TRACK metres, or the pole leans by more than MAX_ANGLE. */
export const TRACK = 2.4;
export const MAX_ANGLE = (12 * 2 * Math.PI) / 360;

/** Number of steps after which an episode is truncated. */
export const MAX_STEPS = 500;

/** Draw the first state of an episode: four numbers between -0.05 and 0.05. */
export function firstState(random = Math.random) {
  return Array.from({ length: 4 }, () => 0.1 * random() - 0.05);
}

/** Return the force of an action: 0 pushes the cart to the left, 1 to the right. */
export function forceOf(action) {
  return action === 1 ? FORCE : -FORCE;
}

/** Return the state after one step of Euler integration, in which a horizontal force acts on the cart. */
export function nextState([x, v, theta, omega], force) {
  const [sine, cosine] = [Math.sin(theta), Math.cos(theta)];
  const a = (force + m * l * omega ** 2 * sine) / M; // acceleration without the reaction of the pole
  const omegaDot = (g * sine - a * cosine) / (l * (4 / 3 - (m * cosine ** 2) / M));
  const vDot = a - (m * l * omegaDot * cosine) / M;
  return [x + TAU * v, v + TAU * vDot, theta + TAU * omega, omega + TAU * omegaDot];
}

/** Return "pole" if the pole has fallen, "cart" if the cart has left the track, otherwise null. */
export function failure([x, , theta]) {
  if (Math.abs(theta) > MAX_ANGLE) return "pole";
  return Math.abs(x) > TRACK ? "cart" : null;
}
