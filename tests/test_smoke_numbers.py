"""The same numbers on every machine, with every Python and every PyTorch.

Training amplifies rounding, within an epoch of the small digits to tenths of a nat. So twenty steps
are compared: after those two engines differ by less than a ten-thousandth of a nat, and two seeds
by more than one.
"""

import pytest

from repro.training import loop
from repro.words.experiments import plan
from tests.helpers import few_digits

AFTER_TWENTY_STEPS = {  # IWAE-64 of the small digits' test images
    "vae": -360.698,
    "iwae": -361.270,
    "piwae": -360.110,
    "miwae": -360.035,
    "ciwae": -360.190,
}


@pytest.mark.parametrize("method", AFTER_TWENTY_STEPS)
def test_after_twenty_steps_the_numbers_are_those_of_other_machines(method):
    (e,) = plan(method, profile="smoke", epochs=1)
    fit = loop.fit([e], few_digits(400, 297), milestones=())
    expected = AFTER_TWENTY_STEPS[method]
    assert fit.curves[0][0]["iwae_64"] == pytest.approx(expected, abs=0.01)
