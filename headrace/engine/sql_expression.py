"""Parses the SQL expressions of calculated columns into trees, without an engine.

The grammar is a subset of Spark SQL: one value of one row. `headrace.engine.checked_expression`
gives the trees types and evaluates them.
"""

import re
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from headrace.errors import ConfigError

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<text>'(?:[^']|'')*')
      | (?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*|`[^`]*`)
      | (?P<mark><=>|<>|!=|<=|>=|==|\|\||[-+*/%(),<>=])
    )""",
    re.VERBOSE,
)
_KEYWORDS = {
    *("and", "or", "not", "is", "null", "in", "between", "like", "rlike", "case", "when"),
    *("then", "else", "end", "cast", "try_cast", "as", "true", "false"),
}
_COMPARISONS = {"=": "=", "==": "=", "<>": "<>", "!=": "<>", "<=>": "<=>"}
_COMPARISONS |= {mark: mark for mark in ("<", ">", "<=", ">=")}
_MOST_NESTED = 60


@dataclass(frozen=True)
class Name:
    """A column."""

    name: str


@dataclass(frozen=True)
class Literal:
    """A constant; None is NULL."""

    value: str | int | Decimal | float | bool | date | datetime | None


@dataclass(frozen=True)
class Call:
    """A function or an operator with its operands, such as `+`, `coalesce` or `is null`.

    `case` has conditions and values in turn, and the value of ELSE at the end.
    """

    function: str
    operands: tuple["Tree", ...]


@dataclass(frozen=True)
class Cast:
    """`cast(operand as type)`, or `try_cast`, which gives NULL where `cast` fails."""

    operand: "Tree"
    type: str
    is_try: bool


Tree = Name | Literal | Call | Cast


def parse_expression(sql: str) -> Tree:
    """Parse one expression.

    Raises:
        ConfigError: It is outside the grammar.
    """
    parser = _Parser(_tokens(sql))
    tree = parser.expression()
    if parser.kind != "end":
        raise parser.unexpected()
    return tree


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


def _tokens(sql: str) -> list[_Token]:
    found, position = [], 0
    end = len(sql.rstrip())
    while position < end:
        match = _TOKEN.match(sql, position)
        if match is None or match.lastgroup is None:
            at = position + len(sql[position:]) - len(sql[position:].lstrip())
            raise _rejected(sql[at], at)
        kind, text = match.lastgroup, match[match.lastgroup]
        if kind == "mark" and text == "-" and sql.startswith("--", match.start("mark")):
            raise _rejected("--", match.start("mark"))
        if kind == "name":
            is_quoted = text.startswith("`")
            text = text.strip("`") if is_quoted else text.lower()
            kind = "word" if not is_quoted and text in _KEYWORDS else "name"
        found.append(_Token(kind, text, match.start(match.lastgroup)))
        position = match.end()
    return [*found, _Token("end", "the end", end)]


def _rejected(text: str, at: int) -> ConfigError:
    fixes = {
        '"': "put texts in single quotes, and write columns without quotes",
        ":": "write cast(… as …) for ::",
        ";": "write one expression",
        "--": "write a comment into `description`",
        ".": "write columns without a table name",
    }
    return ConfigError(
        f"cannot be read as SQL: unexpected {text} at character {at + 1}",
        fix=fixes.get(text, "docs/how-to/calculate-and-look-up-columns.md shows the grammar"),
    )


class _Parser:
    """Recursive descent; each method parses one level of precedence, the loosest first."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._depth = 0

    @property
    def kind(self) -> str:
        return self._tokens[self._next].kind

    def unexpected(self) -> ConfigError:
        token = self._tokens[self._next]
        return _rejected(token.text, token.at)

    def expression(self) -> Tree:
        self._depth += 1
        if self._depth > _MOST_NESTED:
            raise ConfigError(
                f"is nested more than {_MOST_NESTED} deep", fix="calculate parts in columns before"
            )
        tree = self._conjunction()
        while self._takes("or"):
            tree = Call("or", (tree, self._conjunction()))
        self._depth -= 1
        return tree

    def _conjunction(self) -> Tree:
        tree = self._negation()
        while self._takes("and"):
            tree = Call("and", (tree, self._negation()))
        return tree

    def _negation(self) -> Tree:
        if self._takes("not"):
            return Call("not", (self._negation(),))
        return self._comparison()

    def _comparison(self) -> Tree:
        tree = self._sum()
        while True:
            token = self._tokens[self._next]
            if token.kind == "mark" and token.text in _COMPARISONS:
                self._next += 1
                tree = Call(_COMPARISONS[token.text], (tree, self._sum()))
            elif self._takes("is"):
                is_not = self._takes("not")
                self._expect("null")
                tree = _negated(Call("is null", (tree,)), is_not=is_not)
            elif token.text in ("not", "in", "between", "like", "rlike") and token.kind == "word":
                is_not = self._takes("not")
                tree = _negated(self._predicate(tree), is_not=is_not)
            else:
                return tree

    def _predicate(self, tree: Tree) -> Tree:
        if self._takes("in"):
            self._expect("(")
            options = self._list()
            is_equal = [Call("=", (tree, option)) for option in options]
            found: Tree = is_equal[0]
            for one in is_equal[1:]:
                found = Call("or", (found, one))
            return found
        if self._takes("between"):
            low = self._sum()
            self._expect("and")
            high = self._sum()
            return Call("and", (Call(">=", (tree, low)), Call("<=", (tree, high))))
        for word in ("like", "rlike"):
            if self._takes(word):
                return Call(word, (tree, self._sum()))
        raise self.unexpected()

    def _sum(self) -> Tree:
        tree = self._product()
        while (mark := self._taken("+", "-", "||")) is not None:
            tree = Call(mark, (tree, self._product()))
        return tree

    def _product(self) -> Tree:
        tree = self._sign()
        while (mark := self._taken("*", "/", "%")) is not None:
            tree = Call(mark, (tree, self._sign()))
        return tree

    def _sign(self) -> Tree:
        mark = self._taken("+", "-")
        if mark is None:
            return self._primary()
        operand = self._sign()
        if mark == "+":
            return operand
        if isinstance(operand, Literal) and isinstance(operand.value, int | Decimal | float):
            return Literal(-operand.value)
        return Call("negative", (operand,))

    def _primary(self) -> Tree:
        token = self._tokens[self._next]
        if self._takes("("):
            tree = self.expression()
            self._expect(")")
            return tree
        if token.kind in ("text", "number"):
            self._next += 1
            return Literal(_text(token) if token.kind == "text" else _number(token.text))
        if token.kind == "word":
            return self._keyword(token)
        if token.kind != "name":
            raise self.unexpected()
        self._next += 1
        return self._named(token)

    def _named(self, token: _Token) -> Tree:
        if token.text in ("date", "timestamp") and self.kind == "text":
            return self._time(token.text)
        if self._takes("("):
            operands = () if self._takes(")") else self._list()
            return _call(token.text, operands)
        return Name(token.text)

    def _keyword(self, token: _Token) -> Tree:
        self._next += 1
        match token.text:
            case "null":
                return Literal(None)
            case "true" | "false":
                return Literal(token.text == "true")
            case "case":
                return self._case()
            case "cast" | "try_cast":
                return self._cast(is_try=token.text == "try_cast")
            case _:
                self._next -= 1
                raise self.unexpected()

    def _case(self) -> Tree:
        subject = None if self._is_word("when") else self.expression()
        operands: list[Tree] = []
        while self._takes("when"):
            condition = self.expression()
            self._expect("then")
            operands.append(condition if subject is None else Call("=", (subject, condition)))
            operands.append(self.expression())
        if not operands:
            raise self.unexpected()
        operands.append(self.expression() if self._takes("else") else Literal(None))
        self._expect("end")
        return Call("case", tuple(operands))

    def _cast(self, *, is_try: bool) -> Tree:
        self._expect("(")
        operand = self.expression()
        self._expect("as")
        kind = self._tokens[self._next]
        if kind.kind != "name":
            raise self.unexpected()
        self._next += 1
        name = kind.text
        if self._takes("("):
            sizes = self._list()
            name += f"({','.join(str(one.value) for one in sizes if isinstance(one, Literal))})"
        self._expect(")")
        return Cast(operand, name, is_try)

    def _time(self, kind: str) -> Tree:
        token = self._tokens[self._next]
        self._next += 1
        try:
            text = _text(token)
            return Literal(
                date.fromisoformat(text) if kind == "date" else datetime.fromisoformat(text)
            )
        except ValueError:
            raise ConfigError(
                f"{kind} {token.text} is no {kind}", fix="write it as in date '2024-01-31'"
            ) from None

    def _list(self) -> tuple[Tree, ...]:
        """Expressions up to the closing parenthesis."""
        found = [self.expression()]
        while self._takes(","):
            found.append(self.expression())
        self._expect(")")
        return tuple(found)

    def _is_word(self, text: str) -> bool:
        token = self._tokens[self._next]
        return token.kind in ("word", "mark") and token.text == text

    def _takes(self, text: str) -> bool:
        if not self._is_word(text):
            return False
        self._next += 1
        return True

    def _taken(self, *texts: str) -> str | None:
        return next((text for text in texts if self._takes(text)), None)

    def _expect(self, text: str) -> None:
        if not self._takes(text):
            raise self.unexpected()


def _call(function: str, operands: tuple[Tree, ...]) -> Tree:
    if function == "if" and len(operands) == 3:  # noqa: PLR2004
        return Call("case", operands)
    return Call(function, operands)


def _negated(tree: Tree, *, is_not: bool) -> Tree:
    return Call("not", (tree,)) if is_not else tree


def _text(token: _Token) -> str:
    if "\\" in token.text:
        raise ConfigError(
            f"has a backslash in the text at character {token.at + 1}",
            fix="write '' for a quote, and [0-9] or [.] for \\d or \\. in a pattern",
        )
    return token.text[1:-1].replace("''", "'")


def _number(text: str) -> int | Decimal | float:
    if "e" in text.lower():
        return float(text)
    return Decimal(text) if "." in text else int(text)
