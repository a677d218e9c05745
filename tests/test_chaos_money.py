"""That the matrix of crashes and faults leaves nothing out, and that its short form passes."""

import pytest

from payouts.sender import AT_ONCE
from payouts.states import CallOperation
from tests.chaos.money import CRASHES, FOLLOWING, PAIRED, SHORT, groups, main
from tests.chaos.money_case import FAULTS, Run
from tests.chaos.money_writes import WRITES
from tests.fakestripe.faults import AFTER, BEFORE
from tests.fakestripe.server import ROUTES

PLAIN, TRANSFERS, PAIRWISE, FOLLOWED, FULL_BATCHES = groups().values()


def test_every_write_to_stripe_is_in_the_matrix_under_its_own_path() -> None:
    assert set(WRITES) == set(CallOperation)
    paths = {f"{method.lower()} {path}" for method, path in ROUTES}
    assert {write.path for write in WRITES.values()} <= paths


def test_every_point_has_a_way_to_die_and_every_fault_is_one_of_the_stand_in() -> None:
    assert {f"K{number}" for number in range(1, 12)} == set(CRASHES)
    assert all(callable(getattr(Run, f"_crash_{crash.lower()}")) for crash in CRASHES)
    assert {kind for kind, _ in FAULTS.values()} <= BEFORE.keys() | AFTER.keys()
    assert {f"F{number}" for number in range(2, 13)} <= set(FAULTS)


def test_every_write_dies_at_every_point_and_transfers_with_every_fault() -> None:
    assert {(one.operation, one.crash) for one in PLAIN} == {
        (operation, crash)
        for operation in CallOperation
        for crash in CRASHES
        # Their plan is written with the answer to another write, and dies with that.
        if operation not in FOLLOWING or crash not in ("K1", "K2")
    }
    assert {(one.crash, one.fault) for one in TRANSFERS} == {
        (crash, fault) for crash in CRASHES for fault in FAULTS
    }


def test_the_other_writes_meet_points_and_faults_in_every_pair() -> None:
    assert len({(one.operation, one.crash) for one in PAIRWISE}) == len(PAIRED) * len(CRASHES)
    assert len({(one.operation, one.fault) for one in PAIRWISE}) == len(PAIRED) * len(FAULTS)
    assert len({(one.crash, one.fault) for one in PAIRWISE}) == len(CRASHES) * len(FAULTS)
    assert {(one.operation, one.fault) for one in FOLLOWED} == {
        (operation, fault) for operation in FOLLOWING for fault in FAULTS
    }


def test_a_full_lease_of_transfers_dies_wherever_a_sender_can() -> None:
    assert {one.operation for one in FULL_BATCHES} == {CallOperation.TRANSFER}
    assert {one.crash for one in FULL_BATCHES} == {"K3", "K4", "K5", "K6", "K10"}
    assert all(AT_ONCE < one.batch < 2 * AT_ONCE for one in FULL_BATCHES)


def test_the_short_form_has_every_point_and_every_write() -> None:
    assert {one.crash for one in SHORT} == set(CRASHES)
    assert {one.operation for one in SHORT} == set(CallOperation)


@pytest.mark.slow
def test_the_short_form_passes(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--short"])
    told = capsys.readouterr().out
    assert code == 0, told
    assert f"{len(SHORT)}       {len(SHORT)}" in told
