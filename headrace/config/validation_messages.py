"""What is wrong with a file's values, in words and with the path in the file."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from headrace.config.document import Place, read_place
from headrace.config.model import MAY_HOLD_SECRET, Secret, did_you_mean, nearest
from headrace.config.sources.models import MODELS

_MONTH_DAY = r"^(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])$"
# What a pattern of headrace.config.model means; pydantic would show the regular expression.
_SHAPES = {
    r"^[a-z][a-z0-9_]{0,47}$": "must be lower snake case of at most 48 characters, such as "
    "order_lines",
    r"^[a-z][a-z0-9_]{0,62}$": "must be lower snake case of at most 63 characters, such as "
    "unit_price; `from` takes the source's spelling",
    r"^(?:[a-z][a-z0-9_]{0,62}|_source_object|_source_position)$": "must be a column in lower "
    "snake case, _source_object or _source_position",
    r"^[a-z][a-z0-9_]{0,47}\.[a-z][a-z0-9_]{0,47}$": "must be source.entity, such as shop.orders",
    r"^[\w.]+:\w+$": "must be package.module:function",
    r"^sc://": "must be the URL of a Spark Connect server, sc://host:port",
    r"^[A-Z][A-Z0-9_]*$": "must be the name of an environment variable, such as WAREHOUSE_URL",
    r"^\d{1,6}[smhd]$": "must be a number and a unit, such as 30s, 10m, 2h or 1d",
    r"^[^.\s][^.]*(?:\.[^.]*[^.\s])?$": "must be a table, such as orders or public.orders",
    r"^[^.\s][^.]*\.[^.]*[^.\s]$": "must be schema.table, such as headrace.orders_changes",
    r"^(?:\d{1,3}d )?(?:[01]\d|2[0-3]):[0-5]\d$": "must be a time of day, such as 06:00, or days "
    "and a time, such as 3d 12:00",
    _MONTH_DAY: "must be a date, such as 2024-12-25, or a month and day that exist, such as 12-25",
    r"^(?:team:\S+|[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7})$": "must be an address, such "
    "as ann@example.com, or team:name",
    r"^(?:[A-Za-z0-9_.-]{1,63}/)?[A-Za-z0-9_.-]{1,63}$": "must be letters, digits, _ . or -, at "
    "most 63",
    r"^[A-Za-z0-9_.-]{0,63}$": "must be letters, digits, _ . or -, at most 63",
}
# What a value of another type must be, by the kind of pydantic's error.
_TYPES = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number, such as 0.05"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(
        ("date_type", "date_parsing", "date_from_datetime_parsing", "date_from_datetime_inexact"),
        "a date, such as 2024-01-31",
    ),
    **dict.fromkeys(("tuple_type", "list_type"), "a list"),
    **dict.fromkeys(("dict_type", "model_type"), "keys and values"),
    "string_type": "text",
}
# pydantic's names of members of a union, in its locations.
_TAGS = {"csv", "parquet", "json", "json_lines", "excel", "fixed_width"}
_TAGS |= {
    "full",
    "full_snapshot",
    "watermark",
    "increasing_id",
    "change_table",
    "window",
    "api_key",
}
_TAGS |= {"str", "int", "bool", "float", "date"}
# Keys of earlier versions: the keys that replace them.
_RENAMED_KEYS = {
    "overwritten": ("type1",),
    "snapshot": ("full_snapshot",),
    "deletes": ("deleted_when", "on_delete"),
    "slice_bytes": ("batch_bytes",),
}
# What other tools call our keys; the first that exists at a place is suggested there.
_KEYS_ELSEWHERE = {
    "grain": ("partition", "natural_key"),
    "key": ("natural_key", "grain"),
    "name": ("dimension",),
    "check": ("expect", "rules"),
    "source": ("entity",),
    "folder": ("path", "uri"),
    "granularity": ("partition", "grain"),
    "primary_key": ("key", "natural_key"),
    "unique_key": ("key", "natural_key"),
    "business_key": ("natural_key", "key"),
    "fields": ("columns",),
    "schema": ("columns",),
    "filter": ("where",),
    "checks": ("rules",),
    "tests": ("rules",),
    "condition": ("expect",),
    "sql": ("expect",),
    "message": ("reason",),
    "file": ("path",),
    "pattern": ("path", "formats"),
    "glob": ("path",),
    "separator": ("delimiter",),
    "sep": ("delimiter",),
    "charset": ("encoding",),
    "quotechar": ("quote",),
    "null_values": ("null_texts",),
    "skip_rows": ("skip_lines",),
    "nullable": ("required",),
    "not_null": ("required",),
    "date_format": ("formats",),
    "format": ("formats",),
    "tz": ("timezone",),
    "timestamp": ("event_time", "effective_time"),
    "valid_from": ("effective_time",),
    "updated_at": ("effective_time",),
    "scd1": ("type1",),
    "scd2": ("attributes",),
    "type2": ("attributes",),
    "joins": ("dimensions",),
    "foreign_keys": ("dimensions",),
    "metrics": ("measures",),
    "materialized": ("load",),
}
_BY_ENVIRONMENT = (
    "must be {env: NAME}, with the name of an environment variable that holds the value; a name is "
    "capitals, digits and _, such as WAREHOUSE_URL"
)
_MISSING = {"missing", "union_tag_not_found"}
# What other tools call values of our keys.
_VALUES_ELSEWHERE = {
    "csv": ("files",),
    "text": ("files",),
    "merge": ("upsert",),
    "append": ("partition_replace", "upsert"),
    "overwrite": ("partition_replace", "truncate_and_load"),
    "insert_overwrite": ("partition_replace", "truncate_and_load"),
    "replace": ("partition_replace", "truncate_and_load"),
    "full_refresh": ("truncate_and_load",),
    "remove": ("drop", "close"),
    "delete": ("drop", "close"),
    "skip": ("empty",),
    "soft_delete": ("flag",),
    "snapshot": ("periodic_snapshot",),
}
# How an entry of a list is written, by the key of the list.
_ENTRIES = {
    "columns": "{{name: {}, type: {}}}",
    "rules": "{{name: {}, expect: {}, reason: …}}",
    "dimensions": "{{dimension: {}, natural_key: {{{}: …}}}}",
    "entities": "{{name: {}, extract: {}, …}}",
}
_EMPTY = "is empty: give it a value, or drop the key"
_EMPTY_ENTRY = "is empty: drop the entry, or put a text that YAML reads as null in quotes"
_NO_SIGN = {"no", "none", "off", "false", "nothing"}
_FOLLOWS = {"too_short", "missing"}
# What YAML reads as a key in `{type: decimal(10,2)}` without quotes.
_SCALE = re.compile(r"\s*\d+\)")
# A key below a model's own, such as `min_rows` or `columns[2].name`.
_PATH = re.compile(r"\w+(?:\[\d+\])?(?:\.\w+)*")


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: where in the file, and what."""

    place: Place
    what: str


def faults_in(error: ValidationError, values: object, model: type[BaseModel]) -> list[Fault]:
    """Every fault once. pydantic reports some several times, as one of a union for each member."""
    problems: list[Any] = list(error.errors())
    places = [_place_of(values, problem) for problem in problems]
    found: dict[tuple[Place, str], None] = {}
    meant = {
        (*place[:-1], near)
        for problem, place in zip(problems, places, strict=True)
        if problem["type"] == "extra_forbidden" and (near := _near_key(problem, model))
    }
    dates = {p["loc"][:-1] for p in problems if _is_month_day(p)}
    for problem, place in zip(problems, places, strict=True):
        if _has_another_line(problem, place, meant, dates):
            continue
        if shape := _as_one_key(problem, values, place):
            found[place[:-1], shape] = None
            continue
        deeper = any(len(p) > len(place) and p[: len(place)] == place for p in places)
        if deeper and (problem["type"] in _FOLLOWS or _is_member(problem, values, place)):
            continue
        of_union = [p for p, where in zip(problems, places, strict=True) if where == place]
        if len(of_union) > 1 and all(map(_type_wanted, of_union)):
            found[place, _of_no_type(of_union)] = None
        elif len(of_union) == 1 or problem["type"] not in _TYPES:
            # The member of a union whose type the value has explains what is wrong with it.
            found[_narrowed(values, place, _explain(problem, model, place, values))] = None
    return [Fault(place, what) for place, what in found]


def _has_another_line(
    problem: Mapping[str, Any], place: Place, meant: set[Place], dates: set[Any]
) -> bool:
    """Whether another problem at this place or near it is reported instead."""
    if problem["type"] == "missing":
        return place in meant  # The key is there, misspelt.
    if problem["type"] == "extra_forbidden":
        return bool(_SCALE.fullmatch(str(place[-1])))
    # A union of a date and a month's day: the message of the latter names both forms.
    return problem["loc"][:-1] in dates and not _is_month_day(problem)


def _type_wanted(problem: Mapping[str, Any]) -> str | None:
    """What a value of another type must be; None for a value that has the type."""
    if problem["type"] == "literal_error":
        return str(problem["ctx"]["expected"]).replace("True", "true").replace("False", "false")
    return _TYPES.get(problem["type"])


def _of_no_type(problems: Sequence[Mapping[str, Any]]) -> str:
    """The message about a value that has none of the types of a union."""
    wanted = " or ".join(dict.fromkeys(filter(None, map(_type_wanted, problems))))
    value, kinds = problems[0].get("input"), [problem["type"] for problem in problems]
    return f"{_shown(value)}must be {wanted}{_near_bool(kinds, value)}"


def _near_bool(kinds: Sequence[str], value: object) -> str:
    return did_you_mean(str(value), ("true", "false")) if "bool_parsing" in kinds else ""


def _is_month_day(problem: Mapping[str, Any]) -> bool:
    return bool(problem.get("ctx", {}).get("pattern") == _MONTH_DAY)


def _as_one_key(problem: Mapping[str, Any], values: object, place: Place) -> str | None:
    """What to write for an entry `- amount: decimal` of a list whose entries have a name."""
    entry = _value_at(values, place[:-1])
    if not isinstance(entry, dict) or len(entry) != 1 or len(place) < 3:  # noqa: PLR2004
        return None
    ((name, value),) = entry.items()
    key = {"columns": "type", "rules": "expect"}.get(str(place[-3]))
    if key is None or "name" in entry or problem["type"] not in {"missing", "extra_forbidden"}:
        return None
    return f"must have keys: write {{name: {name}, {key}: {'…' if value is None else value}}}"


def _narrowed(values: object, place: Place, what: str) -> tuple[Place, str]:
    """`quality` and `min_rows: is …` as `quality.min_rows` and `is …`: a model names its key."""
    key, colon, rest = what.partition(": ")
    at = _value_at(values, place)
    if not colon or not isinstance(at, dict) or not _PATH.fullmatch(key):
        return place, what
    steps = read_place(at, key)
    return ((*place, *steps), rest) if steps[0] in at else (place, what)


def _value_at(values: object, place: Place) -> object:
    at = values
    for part in place:
        if isinstance(at, dict):
            at = at.get(part)
        elif isinstance(at, list) and isinstance(part, int) and part < len(at):
            at = at[part]
        else:
            return None
    return at


def _place_of(values: object, problem: Mapping[str, Any]) -> Place:
    """Where a problem lies; a problem with a union's discriminator lies at that key."""
    place = place_in(values, problem["loc"])
    if not problem["type"].startswith("union_tag_"):
        return place
    return (*place, problem["ctx"]["discriminator"].removesuffix("()"))


def place_in(values: object, loc: Sequence[str | int]) -> Place:
    """Where in the YAML a pydantic location lies.

    `loc` also holds names of union members, which the file does not: they are left out.
    """
    place: list[str | int] = []
    at = values
    steps = [part for part in loc if part != "[key]"]
    for i, part in enumerate(steps):
        is_last = i == len(steps) - 1 and not _is_tag(str(part))
        if isinstance(part, int) or is_last or (isinstance(at, dict) and part in at):
            place.append(part)
            at = _value_at(at, (part,))
    return tuple(place)


def _is_tag(part: str) -> bool:
    """Whether a step of a location is a union's member, such as `literal[False]` or `dict[…]`."""
    return "[" in part or part in _TAGS or part.startswith("constrained-")


def _is_member(problem: Mapping[str, Any], values: object, place: Place) -> bool:
    """Whether a problem is about a member of a union that the value was not meant for.

    The value is a list or a mapping, and the member is a word. The caller has found deeper faults,
    which are about the member that is meant.
    """
    is_shaped = isinstance(_value_at(values, place), dict | list)
    return is_shaped and problem["type"] in {"literal_error", "bool_type"}


def _explain(
    problem: Mapping[str, Any], model: type[BaseModel], place: Place, values: object
) -> str:
    kind, value = problem["type"], problem.get("input")
    if kind == "extra_forbidden":
        return _no_such_key(problem, model)
    if kind != "missing" and Secret in _models_at(model, problem["loc"]):
        return _BY_ENVIRONMENT  # The value may be the secret itself.
    if kind in {"literal_error", "union_tag_invalid"}:
        return _not_one_of(problem)
    if kind == "string_pattern_mismatch":
        shape = _SHAPES.get(problem["ctx"]["pattern"], problem["msg"])
        meant = did_you_mean(str(value), ()) or _as_name(str(value), problem["ctx"]["pattern"])
        return f"{_quoted(value)} {shape}{meant}"
    if kind in _MISSING or value is None:
        return _nothing(kind, values, place)
    said = str(problem["msg"]).removeprefix("Value error, ")
    message = _WANTED.get(kind) or said.replace("Input should be", "must be")
    if kind == "string_too_long":
        message = _too_long(str(value), problem["ctx"]["max_length"])
    if kind == "string_type" and isinstance(value, list | dict):
        message = f"must be one text, not {_kind_of(value)}"
    shown = "" if kind == MAY_HOLD_SECRET else _shown(value)
    return f"{shown}{message}{_written(problem, model)}"


def _nothing(kind: str, values: object, place: Place) -> str:
    """The message about a key or an entry without a value; YAML reads both as null."""
    parent = _value_at(values, place[:-1])
    if kind in _MISSING:
        is_there = isinstance(parent, dict) and place[-1] in parent
        return "is empty: give it a value" if is_there else "is missing"
    return _EMPTY_ENTRY if isinstance(parent, list) else _EMPTY


def _kind_of(value: list[object] | dict[str, object]) -> str:
    return "a list" if isinstance(value, list) else "keys and values"


def _as_name(value: str, pattern: str) -> str:
    """`; did you mean order_id?` for `OrderId` or `order id`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[ -]+", "_", value).lower()
    is_name = value.replace(" ", "").replace("-", "").replace("_", "").isalnum()
    return f"; did you mean {words}?" if is_name and re.fullmatch(pattern, words) else ""


def _no_such_key(problem: Mapping[str, Any], model: type[BaseModel]) -> str:
    if now := _renamed(problem, model):
        return f"is not a key that exists here; it is now called {now}"
    if section := _section_of(problem, model):
        return f"is not a key that exists here: it belongs into `{section}`"
    near = _near_key(problem, model)
    keys = "the keys here are " + ", ".join(_keys_at(model, problem["loc"][:-1]))
    return f"is not a key that exists here; {f'did you mean {near}?' if near else keys}"


def _too_long(value: str, most: int) -> str:
    if most > 1:
        return f"must have at most {most} characters, not {len(value)}"
    if {*value} == {"\\"}:
        return "must be one character: in single quotes YAML keeps every backslash, so write '\\'"
    return f"must be one character, not {len(value)}"


def _written(problem: Mapping[str, Any], model: type[BaseModel]) -> str:
    """How to write the same value correctly; empty if that is not known."""
    kind, value, loc = problem["type"], problem.get("input"), problem["loc"]
    if kind in {"tuple_type", "list_type"}:
        has_entries = bool(_models_in_list(model, loc))
        return _as_list(value, _form_of(loc), has_entries=has_entries)
    if kind == "bool_parsing":
        return _near_bool([kind], value)
    if kind == "dict_type":
        return _as_keys(value)
    if kind == "model_type" and isinstance(value, str):
        return _as_entry(value, loc, _models_at(model, loc))
    is_sign = bool(loc) and str(loc[-1]) in {"quote", "escape"}
    if is_sign and (value is False or str(value).lower() in _NO_SIGN):
        return "; write null for none"
    return ""


def _form_of(loc: Sequence[str | int]) -> str | None:
    """How an entry of a list is written; the star's own `dimensions` have too many keys to show."""
    return None if tuple(loc) == ("dimensions",) else _ENTRIES.get(str(loc[-1]))


def _as_list(value: object, form: str | None, *, has_entries: bool) -> str:
    if isinstance(value, dict) and not has_entries:
        return f": write [{', '.join(map(str, value))}]"
    if isinstance(value, dict):
        name, inner = next(iter(value.items()), ("…", "…"))
        inner = "…" if inner is None or isinstance(inner, dict | list) else inner
        return f": write - {form.format(name, inner)}" if form else ": begin each entry with `- `"
    is_scalar = isinstance(value, str | int | float) and not isinstance(value, bool)
    return f": write [{value}]" if is_scalar and value != "" else ""


def _as_keys(value: object) -> str:
    names = [value] if isinstance(value, str) else value
    if isinstance(names, list) and names and all(isinstance(n, dict) for n in names):
        return ": drop the `-` before each"
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        return ""
    return f": write {{{', '.join(f'{name}: {name}' for name in names)}}}"


def _as_entry(value: str, loc: Sequence[str | int], models: set[type[BaseModel]]) -> str:
    """An entry of a list, or a section with one required key."""
    form = _form_of(loc[:-1]) if len(loc) > 1 and isinstance(loc[-1], int) else None
    if form is not None:
        both = ("…", value) if loc[-2] == "rules" else (value, "…")
        return f": write {form.format(*both)}"
    fields = [field for one in models for field in one.model_fields.items()]
    needed = [name for name, field in fields if field.is_required()]
    if len(models) == len(needed) == 1:
        return f": write {{{needed[0]}: {value}}}"
    return f": its keys are {', '.join(sorted({key for one in models for key in _keys(one)}))}"


def _models_in_list(model: type[BaseModel], loc: Sequence[str | int]) -> list[type[BaseModel]]:
    annotations = [_keys(one).get(str(loc[-1])) for one in _models_at(model, loc[:-1])]
    return [one for annotation in annotations for one in _models_in(annotation)]


_WANTED = {
    **{kind: f"must be {wanted}" for kind, wanted in _TYPES.items()},
    "too_short": "is empty: at least one is needed",
    "string_type": "must be text: put it in quotes, as YAML reads it as something else",
    "string_too_short": "must not be empty",
}


def _shown(value: object) -> str:
    return f"{_quoted(value)}: " if isinstance(value, str | int | float) and value != "" else ""


def _quoted(value: object) -> str:
    """A scalar as YAML has it: `true`, `1`, and a text in single quotes, without escapes."""
    if isinstance(value, bool):
        return str(value).lower()
    is_plain = isinstance(value, str) and value.isprintable() and "'" not in value
    return f"'{value}'" if is_plain else repr(value)


def _not_one_of(problem: Mapping[str, Any]) -> str:
    context = problem["ctx"]
    expected = context.get("expected") or context["expected_tags"]
    word = context.get("tag") or problem.get("input")
    names = re.findall(r"'([^']*)'", expected) or [expected]
    if problem["loc"] == ("connector",):
        names = [*MODELS]  # The model that was tried knows its own connectors only.
    shown = ", ".join(name if name.replace("_", "").isalnum() else f"'{name}'" for name in names)
    if isinstance(word, list | dict):
        return f"must be one of {shown}, not {_kind_of(word)}"
    if isinstance(word, bool):
        spelled = "yes and on" if word else "no and off"
        none = ": write none" if "none" in names and not word else ""
        return f"{_quoted(word)}, as YAML reads {spelled}, is not one of {shown}{none}"
    elsewhere = _VALUES_ELSEWHERE.get(str(word).lower(), ())
    meant = next((f"; did you mean {name}?" for name in elsewhere if name in names), None)
    return f"{_quoted(word)} is not one of {shown}{meant or did_you_mean(str(word), names)}"


def _renamed(problem: Mapping[str, Any], model: type[BaseModel]) -> str | None:
    """The present name of a key of earlier versions, where that exists."""
    now = _RENAMED_KEYS.get(str(problem["loc"][-1]), ())
    return " and ".join(now) if {*now} & {*_keys_at(model, problem["loc"][:-1])} else None


def _section_of(problem: Mapping[str, Any], model: type[BaseModel]) -> str | None:
    """The section of the same place that has the key, such as `format` for `delimiter`."""
    for one in _models_at(model, problem["loc"][:-1]):
        for name, annotation in _keys(one).items():
            is_section = get_origin(annotation) is not tuple
            if is_section and any(problem["loc"][-1] in _keys(m) for m in _models_in(annotation)):
                return name
    return None


def _near_key(problem: Mapping[str, Any], model: type[BaseModel]) -> str | None:
    word, keys = str(problem["loc"][-1]), _keys_at(model, problem["loc"][:-1])
    elsewhere = _KEYS_ELSEWHERE.get(word.lower(), ())
    return next((key for key in elsewhere if key in keys), None) or nearest(word, keys)


def _keys_at(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    return sorted({key for found in _models_at(model, loc) for key in _keys(found)})


def _models_at(model: type[BaseModel], loc: Sequence[str | int]) -> set[type[BaseModel]]:
    """The models that a location may lead to; several where it leads through a union."""
    at, is_key = {model}, False
    for part in loc:
        if is_key:  # A name that the user chose, such as a connection's, chooses no model.
            is_key = False
            continue
        fields = [_keys(found).get(str(part)) for found in at]
        is_key = any(get_origin(field) is dict for field in fields)
        below = {m for field in fields if field is not None for m in _models_in(field)}
        at = below or {found for found in at if _is_member_called(found, part)} or at
    return at


def _is_member_called(model: type[BaseModel], tag: str | int) -> bool:
    """Whether a union chooses the model by a key with this value."""
    fields = (field.annotation for field in model.model_fields.values())
    return any(get_origin(kind) is Literal and tag in get_args(kind) for kind in fields)


def _keys(model: type[BaseModel]) -> dict[str, Any]:
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)
