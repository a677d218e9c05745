"""What may be fixed, how large each one's part is, and which of several fixes stands; pure.

Whoever fixes and accepts writes a version beside the author's, which stays as it was handed in. The
fix stands where more than half of those who decided, and took the work whole, fixed it; of several
the one that changes least. A further level judges the author's own words and sees no fix before it
has voted, so a fix from below falls with the votes it came with: nobody answers for the words of
another, and no words are delivered that those who decided had not before them.

The author's part of the credit is what stayed: 1 less the edited share. Its pay is that of accepted
work, whole. Whoever fixed is paid for the time as for any review.
"""

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import msgspec

from market.edits.rules import MOST_CELLS, Edit, Stretch, compare, stretches_of
from market.errors import MarketError
from market.states import Machine, Move
from market.submissions.rules import MAX_PAYLOAD_BYTES

FIX = Machine(
    "fix",
    ("proposed",),
    (
        Move("stand", ("proposed",), "standing"),
        Move("pass_over", ("proposed",), "passed_over"),
        # Its author appealed against it, and was right.
        Move("withdraw", ("standing",), "withdrawn"),
    ),
)

SETTLED = ("standing", "withdrawn")
"""The states of a fix that was or is delivered, of which a submission has at most one."""

MOST_EDITED = 0.5
"""The share of the words beyond which it is no fix of the author's work but another one."""


WORDS = re.compile(r"(\w+|[^\w\s])")
LINE_ENDS = re.compile(r"[^\S\n]+$", re.MULTILINE)


class FixNotFound(MarketError):
    """No fix of a submission that the caller may see."""

    def __init__(self, submission_id: UUID) -> None:
        super().__init__("this work was not fixed, as far as you may see")
        self.submission_id = submission_id


class FixUnfit(MarketError):
    """A fix that changes nothing, too much, or more than is kept."""

    def __init__(self, why: str, edited_share: float | None = None) -> None:
        super().__init__(why)
        self.edited_share = edited_share
        self.most_edited = MOST_EDITED


@dataclass(frozen=True, slots=True)
class FieldFix:
    """What a fix changed in one field of the work, part by part in their order.

    Units: `distance` in words; where the words are the same, those before which other blanks stand.
    """

    name: str
    before: str
    after: str
    edit: Edit
    distance: int
    stretches: tuple[Stretch, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """A fix beside the work that it fixes: the fields that differ, and how much of all of it.

    Units: words, put in, taken out or replaced, of the work as a whole.
    """

    fields: tuple[FieldFix, ...]
    author_words: int
    fixed_words: int
    distance: int

    @property
    def edited_share(self) -> float:
        """The words that were changed, of the longer version: whoever fixed has this part."""
        most = max(self.author_words, self.fixed_words)
        return min(1.0, self.distance / most) if most else 0.0


@dataclass(frozen=True, slots=True)
class Proposed:
    """A fix among those who accepted the work: how far it goes, and when it was made."""

    id: UUID
    distance: int


def measure(payload: Mapping[str, object], fixed: Mapping[str, object]) -> Measured:
    """A fix beside the author's version, field by field, in the order of the author's fields."""
    fields = []
    author_words = fixed_words = 0
    # Of all fields together, so that many of them cost no more than one.
    cells = MOST_CELLS
    for name in dict.fromkeys((*payload, *fixed)):
        before, after = _text(payload, name), _text(fixed, name)
        edit = compare(before, after, most_cells=cells)
        cells -= edit.cells
        author_words += edit.draft_words
        fixed_words += edit.text_words
        if edit.distance:
            parts = stretches_of(before, after, edit.regions)
            fields.append(FieldFix(name, before, after, edit, edit.distance, tuple(parts)))
        elif before != after and (spaced := _respaced(before, after)):
            fields.append(FieldFix(name, before, after, edit, *spaced))
    distance = sum(one.distance for one in fields)
    return Measured(tuple(fields), author_words, fixed_words, distance)


def checked_fix(payload: Mapping[str, object], fixed: Mapping[str, object]) -> Measured:
    """A fix that may be proposed, measured.

    Raises:
        FixUnfit.
    """
    size = len(msgspec.json.encode(fixed))
    if size > MAX_PAYLOAD_BYTES:
        raise FixUnfit(f"a fix holds at most {MAX_PAYLOAD_BYTES} bytes, not {size}")
    found = measure(payload, fixed)
    share = found.edited_share
    if not found.distance:
        raise FixUnfit("this changes no word of the work; accept it as it is", share)
    if share > MOST_EDITED:
        raise FixUnfit(
            f"this changes {share:.0%} of the words, and beyond {MOST_EDITED:.0%} it is no fix:"
            " ask the author for changes",
            share,
        )
    return found


def standing_of(fixes: Sequence[Proposed], accepts: int) -> UUID | None:
    """Which fix stands among those who took the work whole; `fixes` in the order of their time."""
    if 2 * len(fixes) <= accepts:
        return None
    return min(fixes, key=lambda one: one.distance).id


def _respaced(before: str, after: str) -> tuple[int, tuple[Stretch, ...]] | None:
    """Before how many words other blanks stand, where the words are the same, and which; so that
    code that is only indented, and a list that is only put on lines, is a fix as well.
    """
    one, other = _gapped(before), _gapped(after)
    if one == other or one[1::2] != other[1::2]:
        return None
    parts: list[Stretch] = []
    kept = ""
    for was, now in zip(one, other, strict=True):
        if was == now:
            kept += was
            continue
        parts += [Stretch(kept, kept, is_kept=True), Stretch(was, now, is_kept=False)]
        kept = ""
    changed = len(parts) // 2
    return changed, (*parts, Stretch(kept, kept, is_kept=True))


def _gapped(text: str) -> list[str]:
    """A text as what stands before its first word, the word, what stands before the next, and so
    on; blanks at the ends of lines and of the text, which nobody sees, left away.
    """
    composed = unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n")
    return WORDS.split(LINE_ENDS.sub("", composed).strip())


def _text(payload: Mapping[str, object], name: str) -> str:
    value = payload.get(name, "")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
