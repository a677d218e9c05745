"""How far handed in work is from the draft that it began from; pure.

Both texts are compared as words, once they are written alike: composed characters, one kind of line
end, one blank where there were several. What is kept are spans in those texts.
"""

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from market.errors import MarketError

MOST_CELLS = 100_000_000
"""Words of one changed stretch times words of the other, up to which the shortest way between them
is looked for; a longer one counts as replaced whole. Keeps handing in below a second.
"""

_BLANKS = re.compile(r"[^\S\n]+")
_LINE_EDGES = re.compile(r" ?\n ?")
_WORDS = re.compile(r"\w+|[^\w\s]")


class DraftUnedited(MarketError):
    """A draft handed in as it was given, where the project takes none."""

    def __init__(self) -> None:
        super().__init__(
            "this is the draft as it was given, and the project takes none unedited; change what"
            " has to be changed, or give the task back: your minutes are paid"
        )


class EditNotFound(MarketError):
    """A submission that began from no draft."""

    def __init__(self) -> None:
        super().__init__("this submission began from no draft")


@dataclass(frozen=True, slots=True)
class Region:
    """A stretch of the draft, and what stands in its place; either may be empty.

    Units: characters of the two texts as `written_alike` gives them, the end exclusive.
    """

    draft_from: int
    draft_to: int
    text_from: int
    text_to: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the draft and what stands for it; where `is_kept`, the same words."""

    draft: str
    text: str
    is_kept: bool


@dataclass(frozen=True, slots=True)
class Edit:
    """What became of a draft.

    Units: `distance` is words put in, taken out or replaced, at the least; `untouched_share` of
        the draft's words; `cells` words of one changed stretch times words of the other that were
        compared. Where `is_exact` is false, the least may be lower.
    """

    draft_words: int
    text_words: int
    distance: int
    untouched_share: float
    regions: tuple[Region, ...]
    is_exact: bool
    cells: int = 0

    @property
    def is_unedited(self) -> bool:
        """Whether the draft came back as it was given."""
        return self.distance == 0


def written_alike(text: str) -> str:
    """A text without differences that nobody would call an edit."""
    composed = unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n")
    return _LINE_EDGES.sub("\n", _BLANKS.sub(" ", composed)).strip()


def text_of(payload: Mapping[str, object]) -> str:
    """What of a submission is compared with a draft: its answer, or all of it where it has none."""
    answer = payload.get("answer", payload)
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)


def compare(draft: str, text: str, *, most_cells: int = MOST_CELLS) -> Edit:
    """A draft beside what was made of it; `most_cells` as `MOST_CELLS`.

    Source: Hyyrö, A Bit-Vector Algorithm for Computing Levenshtein and Damerau Edit Distances
    (2003), over words in the place of characters.
    """
    before = list(_WORDS.finditer(written_alike(draft)))
    after = list(_WORDS.finditer(written_alike(text)))
    left, right = [one.group() for one in before], [one.group() for one in after]
    start = 0
    while start < min(len(left), len(right)) and left[start] == right[start]:
        start += 1
    end = 0
    while end < min(len(left), len(right)) - start and left[-1 - end] == right[-1 - end]:
        end += 1
    inner = left[start : len(left) - end], right[start : len(right) - end]
    cells = len(inner[0]) * len(inner[1])
    is_exact = cells <= most_cells
    blocks = _blocks(*inner) if is_exact else [(0, len(inner[0]), 0, len(inner[1]))]
    changed = [(a + start, b + start, c + start, d + start) for a, b, c, d in blocks]
    touched = sum(b - a for a, b, _, _ in changed)
    return Edit(
        draft_words=len(left),
        text_words=len(right),
        distance=sum(max(b - a, d - c) for a, b, c, d in changed),
        untouched_share=1 - touched / len(left) if left else 0.0,
        regions=tuple(Region(*_span(before, a, b), *_span(after, c, d)) for a, b, c, d in changed),
        is_exact=is_exact,
        cells=cells if is_exact else 0,
    )


def stretches_of(draft: str, text: str, regions: Sequence[Region]) -> list[Stretch]:
    """Two texts part by part, in their order: what was kept, and what stands for what."""
    before, after = written_alike(draft), written_alike(text)
    found: list[Stretch] = []
    a = c = 0
    for one in regions:
        found.append(Stretch(before[a : one.draft_from], after[c : one.text_from], is_kept=True))
        found.append(
            Stretch(
                before[one.draft_from : one.draft_to],
                after[one.text_from : one.text_to],
                is_kept=False,
            )
        )
        a, c = one.draft_to, one.text_to
    found.append(Stretch(before[a:], after[c:], is_kept=True))
    return [one for one in found if one.draft or one.text]


def _span(words: Sequence[re.Match[str]], first: int, past: int) -> tuple[int, int]:
    """From where to where some words stand; none stand behind the word before them."""
    if first == past:
        place = words[first - 1].end() if first else 0
        return place, place
    return words[first].start(), words[past - 1].end()


def _blocks(left: Sequence[str], right: Sequence[str]) -> list[tuple[int, int, int, int]]:
    """Changed stretches on a shortest way from one to the other, in their order."""
    blocks: list[tuple[int, int, int, int]] = []

    def add(a: int, b: int, c: int, d: int) -> None:
        # Found from the back: what touches the stretch found last is one with it.
        if blocks and blocks[-1][0] == b and blocks[-1][2] == d:
            _, b, _, d = blocks.pop()
        blocks.append((a, b, c, d))

    row, column = len(left), len(right)
    risen = _columns(left, right) if left and right else []
    while row and column:
        if risen[column - 1][0] >> (row - 1) & 1:
            row -= 1
            add(row, row + 1, column, column)
        elif column > 1 and risen[column - 2][1] >> (row - 1) & 1:
            column -= 1
            add(row, row, column, column + 1)
        else:
            row, column = row - 1, column - 1
            if left[row] != right[column]:
                add(row, row + 1, column, column + 1)
    if row or column:
        add(0, row, 0, column)
    return blocks[::-1]


def _columns(left: Sequence[str], right: Sequence[str]) -> list[tuple[int, int]]:
    """For each word of the right: at which words of the left the distance rises, where it falls."""
    places: dict[str, int] = {}
    for n, word in enumerate(left):
        places[word] = places.get(word, 0) | 1 << n
    every = (1 << len(left)) - 1
    up, down = every, 0
    columns = []
    for word in right:
        met = places.get(word, 0)
        same = ((((met & up) + up) ^ up) | met | down) & every
        across_up = (down | ~(same | up)) & every
        across_down = same & up
        across_up = across_up << 1 | 1
        across_down <<= 1
        up = (across_down | ~(same | across_up)) & every
        down = across_up & same & every
        columns.append((up, down))
    return columns
