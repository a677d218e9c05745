"""The grammar of expressions: a text becomes a typed tree or is refused at its first wrong place.

expression = all { "or" all }
all        = part { "and" part }
part       = "not" part | "(" expression ")" | "everyone" | "cohort" text | condition
condition  = field ( comparison value | ["not"] "in" "(" value { "," value } ")"
                   | "has" value | "is" ( "known" | "unknown" ) )
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from market.language import (
    COMPARISONS,
    MAX_CONDITIONS,
    MAX_DEPTH,
    MAX_LENGTH,
    MAX_LISTED,
    OPERATORS,
    All,
    Any,
    Cohort,
    Condition,
    Everyone,
    Expression,
    ExpressionInvalid,
    ExpressionTooLarge,
    Field,
    Not,
    Tree,
    Vocabulary,
    conditions,
    depth,
    field_of,
)

KEYWORDS = ("and", "or", "not", "in", "has", "is", "known", "unknown", "everyone", "cohort")

KEY = re.compile(r"[a-z0-9]+(?:[-_][a-z0-9]+)*(?:\.[a-z0-9]+(?:[-_][a-z0-9]+)*)*")
"""The domain behind a keyed field."""

MAX_KEY = 120

_TOKEN = re.compile(
    r"""
    (?P<blank>\s+)
    | (?P<number>-?\d+(?:\.\d+)?(?![\w.]))
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*(?:[.-][A-Za-z0-9_]+)*)
    | (?P<text>"(?:[^"\\]|\\["\\])*")
    | (?P<sign><=|>=|!=|=|<|>|\(|\)|,)
    """,
    re.VERBOSE | re.ASCII,
)

_MEANT = {
    "==": "=",
    "&&": "and",
    "||": "or",
    "<>": "!=",
    "!": "not",
    "'": 'a text in double quotes, such as "CA"',
}
"""What people write who know other languages, and what it is here."""

# More digits than any field has would only make comparisons slow.
_MAX_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Saved:
    """A cohort as it stands: its version and its tree."""

    version: int
    tree: Tree


@dataclass(frozen=True, slots=True)
class _Token:
    """A word, number, text or sign of a source, and where it stands."""

    kind: str
    said: str
    start: int
    end: int


def parse(
    source: str, vocabulary: Vocabulary, cohorts: Mapping[str, Saved] | None = None
) -> Expression:
    """The expression that a text is, in the fields of one vocabulary.

    Raises:
        ExpressionInvalid, ExpressionTooLarge.
    """
    if len(source) > MAX_LENGTH:
        raise ExpressionTooLarge("characters", MAX_LENGTH)
    reader = _Reader(source, vocabulary, cohorts or {})
    tree = reader.read()
    if len(conditions(tree)) > MAX_CONDITIONS:
        raise ExpressionTooLarge("conditions", MAX_CONDITIONS)
    if depth(tree) > MAX_DEPTH:
        raise ExpressionTooLarge("parts within one another", MAX_DEPTH)
    return Expression(source=source, tree=tree)


def written(tree: Tree, vocabulary: Vocabulary) -> str:
    """A tree as text; what is read from it is the same tree, places aside.

    Raises:
        FieldGone.
    """
    if isinstance(tree, Everyone):
        return "everyone"
    if isinstance(tree, All | Any):
        word = " and " if isinstance(tree, All) else " or "
        return word.join(
            f"({written(part, vocabulary)})"
            if isinstance(part, All | Any)
            else written(part, vocabulary)
            for part in tree.parts
        )
    if isinstance(tree, Not):
        inner = written(tree.part, vocabulary)
        return f"not ({inner})" if isinstance(tree.part, All | Any) else f"not {inner}"
    if isinstance(tree, Cohort):
        return f"cohort {_quoted(tree.name)}"
    return condition_written(tree, vocabulary)


def condition_written(condition: Condition, vocabulary: Vocabulary) -> str:
    """One condition as text.

    Raises:
        FieldGone.
    """
    is_plain = condition.operator == "is" or field_of(condition, vocabulary).kind in (
        "number",
        "measure",
    )
    values = ", ".join(v if is_plain else _quoted(v) for v in condition.values)
    if condition.operator in ("in", "not in"):
        values = f"({values})"
    return f"{condition.field} {condition.operator} {values}"


def _quoted(said: str) -> str:
    escaped = said.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _unquoted(said: str) -> str:
    return re.sub(r"\\(.)", r"\1", said[1:-1])


class _Reader:
    """Reads one source from left to right, and never goes back."""

    def __init__(self, source: str, vocabulary: Vocabulary, cohorts: Mapping[str, Saved]) -> None:
        self._source = source
        self._vocabulary = vocabulary
        self._cohorts = cohorts
        self._tokens = _tokens(source)
        self._at = 0
        self._open = 0

    def read(self) -> Tree:
        tree = self._expression()
        if self._now.kind != "end":
            raise self._unexpected(("and", "or", "the end"))
        return tree

    @property
    def _now(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._now
        self._at += 1
        return token

    def _is(self, word: str) -> bool:
        token = self._now
        return token.kind in ("word", "sign") and token.said.lower() == word

    def _took(self, word: str) -> bool:
        if self._is(word):
            self._at += 1
            return True
        return False

    def _expect(self, word: str) -> None:
        if not self._took(word):
            raise self._unexpected((word,))

    def _unexpected(self, wanted: tuple[str, ...]) -> ExpressionInvalid:
        token = self._now
        said = "the expression ends too early" if token.kind == "end" else f"found {token.said!r}"
        return ExpressionInvalid(said, token.start, token.end - token.start, wanted)

    def _expression(self) -> Tree:
        parts = [self._all()]
        while self._took("or"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else Any(parts=tuple(parts))

    def _all(self) -> Tree:
        parts = [self._part()]
        while self._took("and"):
            parts.append(self._part())
        return parts[0] if len(parts) == 1 else All(parts=tuple(parts))

    def _part(self) -> Tree:
        # Counted here too, so that no source is read deeper than a tree may be.
        self._open += 1
        if self._open > MAX_DEPTH:
            raise ExpressionTooLarge("parts within one another", MAX_DEPTH)
        try:
            if self._took("not"):
                return Not(part=self._part())
            if self._took("("):
                inner = self._expression()
                self._expect(")")
                return inner
            if self._took("everyone"):
                return Everyone()
            if self._took("cohort"):
                return self._cohort()
            return self._condition()
        finally:
            self._open -= 1

    def _cohort(self) -> Tree:
        token = self._now
        if token.kind != "text":
            raise self._unexpected(("the name of a cohort in double quotes",))
        name = _unquoted(self._take().said)
        saved = self._cohorts.get(name)
        if saved is None:
            wanted = tuple(sorted(self._cohorts)[:20])
            said = f"there is no cohort {name!r}"
            raise ExpressionInvalid(said, token.start, token.end - token.start, wanted)
        return Cohort(name=name, version=saved.version, part=saved.tree)

    def _condition(self) -> Condition:
        token = self._now
        if token.kind != "word" or token.said.lower() in KEYWORDS:
            raise self._unexpected(("a field", "not", "("))
        self._take()
        length = token.end - token.start
        found = self._vocabulary.split(token.said)
        if found is None:
            said = f"nothing is known as {token.said!r}"
            wanted = tuple(self._vocabulary.names())
            raise ExpressionInvalid(said, token.start, length, wanted)
        field, key = found
        if key is not None and (len(key) > MAX_KEY or not KEY.fullmatch(key)):
            said = f"{key!r} is no domain: small letters, digits, and dots between words"
            raise ExpressionInvalid(said, token.start, length)
        operator = self._operator(field)
        values = self._values(field, operator)
        return Condition(
            field=token.said,
            operator=operator,
            values=values,
            start=token.start,
            end=self._tokens[self._at - 1].end,
        )

    def _operator(self, field: Field) -> str:
        token, known = self._now, OPERATORS[field.kind]
        operator = token.said.lower() if token.kind in ("word", "sign") else ""
        if operator == "not":
            self._take()
            if not self._is("in"):
                raise self._unexpected(("in",))
            operator = "not in"
        if operator not in known:
            if operator in (*COMPARISONS, "in", "not in", "has"):
                said = f"{operator!r} cannot be asked of {field.name}, which is a {field.kind}"
                raise ExpressionInvalid(said, token.start, token.end - token.start, known)
            raise self._unexpected(known)
        self._take()
        return operator

    def _values(self, field: Field, operator: str) -> tuple[str, ...]:
        if operator == "is":
            if not (self._is("known") or self._is("unknown")):
                raise self._unexpected(("known", "unknown"))
            return (self._take().said.lower(),)
        if operator not in ("in", "not in"):
            return (self._value(field),)
        self._expect("(")
        values = [self._value(field)]
        while self._took(","):
            values.append(self._value(field))
            if len(values) > MAX_LISTED:
                raise ExpressionTooLarge("values in a list", MAX_LISTED)
        if not self._is(")"):
            raise self._unexpected((",", ")"))
        self._take()
        return tuple(values)

    def _value(self, field: Field) -> str:
        token = self._now
        length = token.end - token.start
        if field.kind in ("number", "measure"):
            if token.kind != "number":
                raise self._unexpected((f"a number, such as {field.example}",))
            if sum(one.isdigit() for one in token.said) > _MAX_DIGITS:
                said = f"a number has at most {_MAX_DIGITS} digits"
                raise ExpressionInvalid(said, token.start, length)
            if field.kind == "measure" and not 0 <= Decimal(token.said) <= 1:
                raise ExpressionInvalid(
                    f"{field.name} lies between 0 and 1", token.start, length, (field.example,)
                )
            return self._take().said
        if token.kind != "text":
            raise self._unexpected((f"a text in double quotes, such as {field.example}",))
        said = _unquoted(token.said)
        if field.choices and said not in field.choices:
            wanted = tuple(_quoted(one) for one in field.choices)
            raise ExpressionInvalid(f"{field.name} is never {said!r}", token.start, length, wanted)
        if field.form is not None and not field.form.fullmatch(said):
            wanted = (f"one such as {field.example}",)
            raise ExpressionInvalid(f"{said!r} is no {field.name}", token.start, length, wanted)
        if "\0" in said:
            raise ExpressionInvalid("a text holds no NUL", token.start, length)
        self._take()
        return said


def _tokens(source: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    while at < len(source):
        match = _TOKEN.match(source, at)
        if match is None or match.lastgroup is None:
            raise _unreadable(source, at)
        meant = _MEANT.get(source[at : at + 2])
        if meant is not None:
            raise ExpressionInvalid(f"found {source[at : at + 2]!r}", at, 2, (meant,))
        if match.lastgroup != "blank":
            found.append(_Token(match.lastgroup, match[0], at, match.end()))
        at = match.end()
    return [*found, _Token("end", "", len(source), len(source))]


def _unreadable(source: str, at: int) -> ExpressionInvalid:
    for said in (source[at : at + 2], source[at]):
        if said in _MEANT:
            return ExpressionInvalid(f"found {said!r}", at, len(said), (_MEANT[said],))
    if source[at] == '"':
        return ExpressionInvalid("this text has no end", at, len(source) - at, ('"',))
    return ExpressionInvalid(f"{source[at]!r} means nothing here", at, 1)
