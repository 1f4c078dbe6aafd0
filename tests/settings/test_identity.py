import pytest

from raybert.errors import UserError
from raybert.settings import ModelSettings, PretrainingSettings
from raybert.settings.identity import difference, identity_of, refuse_other_identity


def test_operational_settings_are_free():
    first = identity_of(PretrainingSettings(steps=10, log_every=1))
    assert difference(first, identity_of(PretrainingSettings(steps=20, log_every=5))) == []


def test_identity_settings_are_refused_with_a_diff():
    stored = identity_of(PretrainingSettings(), ModelSettings())
    asked = identity_of(PretrainingSettings(seed=1), ModelSettings(size="tiny"))
    with pytest.raises(UserError, match=r"(?s)runs/a was made.*seed: 42 -> 1.*size: small -> tiny"):
        refuse_other_identity("runs/a", stored, asked)
    refuse_other_identity("runs/a", stored, stored)
