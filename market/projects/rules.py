"""The project's states, its limits, and what is refused about it."""

from collections.abc import Sequence
from uuid import UUID

from market.errors import MarketError
from market.states import Machine, Move

PROJECT = Machine(
    "project",
    initial=("draft",),
    moves=(
        Move("submit", ("draft",), "checking"),
        Move("pass", ("checking",), "ready"),
        Move("fail", ("checking",), "draft"),
        Move("calibrate", ("ready",), "calibrating"),
        Move("launch", ("ready",), "live"),
        Move("cancel", ("ready",), "cancelled"),
        Move("gate_pass", ("calibrating",), "live"),
        Move("gate_fail", ("calibrating",), "ready"),
        Move("pause", ("live",), "paused"),
        Move("advance_round", ("live",), "live"),
        Move("resume", ("paused",), "live"),
        Move("drain", ("live", "paused"), "draining"),
        Move("terminate", ("live", "paused"), "draining"),
        Move("settle", ("draining",), "settling"),
        Move("close", ("settling",), "closed"),
        Move("reopen", ("closed",), "ready"),
        Move("archive", ("closed",), "archived"),
    ),
)
