"""Fixtures of chapter 8's tests."""

import pytest

from conftest import fit_classifiers_once


@pytest.fixture(scope="package", autouse=True)
def _one_classifier():
    with pytest.MonkeyPatch.context() as patch:
        fit_classifiers_once(patch)
        yield
