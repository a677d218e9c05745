"""Policies are data: bounded, readable back, and known by a digest."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matching.policy import Policy, PolicyInvalid, Weights


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"exploration": -0.1}, "exploration"),
        ({"exploration": float("nan")}, "exploration"),
        ({"randomness": 0.0}, "randomness"),
        ({"randomness": 1.2}, "randomness"),
        ({"share_cap": 0}, "share_cap"),
        ({"newcomer_share": 2}, "newcomer_share"),
        ({"open_seat_price": "much"}, "open_seat_price"),
        ({"floor": 1}, "floor"),
        ({"expolration": 1}, "expolration"),
        ({"weights": {"stumps": 1}}, "weights.stumps"),
        ({"weights": {"cost": -1}}, "weights.cost"),
        ({"weights": 3}, "weights"),
        ({"min_load_price": True}, "min_load_price"),
    ],
)
def test_a_setting_out_of_bounds_or_unknown_is_refused_by_name(
    settings: dict[str, object], name: str
) -> None:
    with pytest.raises(PolicyInvalid) as refusal:
        Policy.from_dict(settings)
    assert refusal.value.setting == name


@given(
    stump=st.floats(0, 1000),
    exploration=st.floats(0, 3),
    share=st.floats(1e-6, 1),
    floor=st.booleans(),
)
def test_a_policy_reads_back_from_json_to_the_same_digest(
    stump: float, exploration: float, share: float, floor: bool
) -> None:
    policy = Policy(
        weights=Weights(stump=stump), exploration=exploration, share_cap=share, floor=floor
    )
    again = Policy.from_dict(json.loads(json.dumps(policy.to_dict())))
    assert again == policy
    assert again.digest() == policy.digest()


def test_the_digest_tells_policies_apart_and_nothing_else() -> None:
    policy = Policy()
    assert policy.digest() == Policy.from_dict({}).digest()
    assert replace(policy, exploration=0.5).digest() != policy.digest()
    assert replace(policy, open_seat_price=-0.0).digest() == policy.digest()
    turned = dict(reversed(list(policy.to_dict().items())))
    assert Policy.from_dict(turned).digest() == policy.digest()
