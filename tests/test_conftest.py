"""Rules of the tests: learning tests have a bound, and CI skips no test for a tool that it should have installed."""

import pytest

from conftest import refuse_skip_in_ci, train_until


def skipped(reason: str) -> pytest.TestReport:
    return pytest.TestReport("a", ("a.py", 1, "a"), {}, "skipped", ("a.py", 1, f"Skipped: {reason}"), "call")


@pytest.mark.parametrize(
    ("ci", "reason", "outcome"),
    [
        ("true", "Graphviz is not installed", "failed"),
        ("true", "there is no Chromium on this machine", "failed"),
        ("true", "JAX is not installed", "failed"),
        ("true", "there is no CUDA device", "skipped"),
        ("", "Graphviz is not installed", "skipped"),
    ],
)
def test_a_tool_that_ci_installs_is_never_a_reason_to_skip_there(monkeypatch, ci, reason, outcome):
    monkeypatch.setenv("CI", ci)
    report = skipped(reason)
    refuse_skip_in_ci(report)
    assert report.outcome == outcome


def test_training_ends_when_the_task_is_learned_and_fails_at_the_bound():
    steps = []
    train_until(lambda: len(steps) >= 12, lambda: steps.append(1), at_most=20)
    assert len(steps) == 15
    with pytest.raises(pytest.fail.Exception, match="not learned within 10 steps"):
        train_until(lambda: False, lambda: None, at_most=10)
