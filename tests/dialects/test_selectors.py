"""Model names are read out of bodies in one way only, or not at all."""

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects import DIALECTS, selectors
from gateway.dialects.selectors import MAX_NAMES, BodyReader, MalformedBodyError, Reading, Selector

MODEL = Selector(("model",), required=True)
CHAT = BodyReader((MODEL, Selector(("moderation", "model"))))
MESSAGES = BodyReader((MODEL, Selector(("fallbacks", "[]", "model")), Selector(("tools", "[]", "model"))))
RESPONSES = BodyReader(
    (Selector(("model",)), Selector(("tools", "[]", "model")), Selector(("tools", "[]", "svg", "model")))
)

READ = [
    (CHAT, b'{"model":"A"}', ("A",)),
    (CHAT, b' \t\r\n{ "model" : "A" } \n', ("A",)),
    (CHAT, b'{"model":"\\u0041"}', ("A",)),  # an escaped value is a value
    (CHAT, b'{"mod\\u0065l":"A"}', ("A",)),  # every JSON parser reads this key alike while it stands alone
    (CHAT, b'{"model":"A[1m]"}', ("A[1m]",)),
    (CHAT, b'{"model":"A","moderation":{"model":"K"}}', ("A", "K")),
    (CHAT, b'{"model":"A","moderation":null}', ("A",)),
    (CHAT, b'{"model":"A","metadata":{"model":"K"}}', ("A",)),  # a key of that name elsewhere is no selector
    (CHAT, b'{"model":"A","metadata":{"Model":"K","MODEL":"K","model":"K"}}', ("A",)),
    (CHAT, b'{"messages":[{"content":"{\\"model\\":\\"K\\"}"}],"model":"A"}', ("A",)),  # a key inside a string
    (CHAT, b'{"a":"\\\\","model":"A"}', ("A",)),
    (CHAT, b'{"a":"model:","b":"\\"model\\":","model":"A"}', ("A",)),
    (CHAT, b'{"models":"K","model ":"K","model":"A"}', ("A",)),  # other keys
    (CHAT, '{"mödel":"K","model":"A"}'.encode(), ("A",)),
    (CHAT, b'{"model":"A","n":1e300,"z":-0}', ("A",)),
    (MESSAGES, b'{"model":"A","fallbacks":[{"model":"K"},{"model":"B"}]}', ("A", "K", "B")),
    (MESSAGES, b'{"model":"A","fallbacks":null,"tools":[]}', ("A",)),
    (MESSAGES, b'{"model":"A","tools":[{"type":"advisor_20260301","model":"K"}]}', ("A", "K")),
    (MESSAGES, b'{"model":"A","tools":[{"type":"anything","model":"K"}]}', ("A", "K")),
    (MESSAGES, b'{"model":"A","tools":[{"name":"f","input_schema":{"properties":{"model":{}}}}]}', ("A",)),
    (MESSAGES, b'{"model":"A","tools":["K",1,null,[{"model":"K"}]]}', ("A",)),
    (RESPONSES, b"{}", ()),
    (RESPONSES, b'{"tools":[{"type":"image_generation","model":"K"}]}', ("K",)),
    (RESPONSES, b'{"model":"A","tools":[{"svg":{"model":"K"}},{"svg":null},{"svg":"x"}]}', ("A", "K")),
]


@pytest.mark.parametrize(("reader", "body", "names"), READ)
def test_names_are_found_where_the_selectors_say(reader, body, names):
    assert reader.read(body).names == names


DEEP = 100_000
REFUSED = {
    # two members of one key: parsers take the first, the last, or any
    "twice": b'{"model":"A","model":"K"}',
    "twice, reversed": b'{"model":"K","model":"A"}',
    "twice, the same": b'{"model":"A","model":"A"}',
    "twice, once escaped": b'{"mod\\u0065l":"K","model":"A"}',
    "twice, once escaped in capitals": b'{"\\u006D\\u006Fdel":"K","model":"A"}',
    "twice, all escaped": b'{"\\u006d\\u006f\\u0064\\u0065\\u006c":"K","model":"A"}',
    "twice, far apart": b'{"model":"A","x":"' + b"x" * 300_000 + b'","model":"K"}',
    "twice, one null": b'{"model":"A","model":null}',
    "twice within moderation": b'{"model":"A","moderation":{"model":"A","model":"K"}}',
    "moderation twice": b'{"model":"A","moderation":{"model":"A"},"moderation":{"model":"K"}}',
    "stream twice": b'{"model":"A","stream":true,"stream":false}',
    # parsers that look at keys without regard to case
    "Model": b'{"Model":"K"}',
    "MODEL beside": b'{"model":"A","MODEL":"K"}',
    "beside, before": b'{"mOdEl":"K","model":"A"}',
    "beside, escaped": b'{"\\u004dodel":"K","model":"A"}',
    "Stream": b'{"model":"A","Stream":true}',
    "long s": '{"model":"A","\u017ftream":true}'.encode(),
    "long s, escaped": b'{"model":"A","\\u017Ftream":true}',
    "Moderation": b'{"model":"A","Moderation":{"model":"K"}}',
    "Moderation beside": b'{"model":"A","moderation":{"model":"A"},"Moderation":{"model":"K"}}',
    "moderation.Model": b'{"model":"A","moderation":{"Model":"K"}}',
    # encodings
    "byte order mark": b'\xef\xbb\xbf{"model":"A"}',
    "UTF-16": '{"model":"A"}'.encode("utf-16"),
    "UTF-16LE without a mark": '{"model":"A"}'.encode("utf-16-le"),
    "UTF-16BE without a mark": '{"model":"A"}'.encode("utf-16-be"),
    "UTF-32": '{"model":"A"}'.encode("utf-32"),
    "UTF-7": b"+AHsAIg-model+ACIAOgAi-A+ACIAfQ-",
    "Latin-1": '{"model":"A","x":"é"}'.encode("latin-1"),
    "overlong": b'{"model":"\xc1\x81"}',
    "overlong key": b'{"\xc1\xadodel":"K","model":"A"}',
    "cut in a character": b'{"model":"A","x":"\xe2\x82"}',
    "encoded surrogate": b'{"model":"A\xed\xa0\x80"}',
    "lone surrogate": b'{"model":"A\\ud800"}',
    "lone surrogate elsewhere": b'{"model":"A","x":"\\udc00"}',
    # numbers
    "NaN": b'{"model":"A","x":NaN}',
    "Infinity": b'{"model":"A","x":Infinity}',
    "-Infinity": b'{"model":"A","x":-Infinity}',
    "1e400": b'{"model":"A","x":1e400}',
    "-1e400": b'{"model":"A","x":-1e400}',
    "leading zero": b'{"model":"A","x":01}',
    "plus": b'{"model":"A","x":+1}',
    "hexadecimal": b'{"model":"A","x":0x1}',
    # more than one document, or less
    "a second document": b'{"model":"A"}{"model":"K"}',
    "a second document on a line": b'{"model":"A"}\n{"model":"K"}',
    "a NUL after it": b'{"model":"A"}\x00',
    "text after it": b'{"model":"A"} x',
    "nothing": b"",
    "blanks": b"  \n",
    "cut short": b'{"model":"A"',
    # syntax that some parsers allow
    "comment": b'{"model":"A"/* */}',
    "line comment": b'{"model":"A"}//x',
    "trailing comma": b'{"model":"A",}',
    "single quotes": b"{'model':'A'}",
    "bare key": b'{model:"A"}',
    "control character": b'{"model":"A\x01"}',
    "raw line feed in a key": b'{"model\n":"K","model":"A"}',
    "escaped by x": b'{"\\x6dodel":"K","model":"A"}',
    "capital escape": b'{"\\U006dodel":"K","model":"A"}',
    "form feed as a blank": b'{"model":\x0c"A"}',
    "no-break space as a blank": '{\u00a0"model":"A"}'.encode(),
    # nesting
    "deep lists": b'{"model":"A","x":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep objects": b'{"x":' * DEEP + b"1" + b"}" * DEEP,
    "deep and never closed": b"[" * DEEP,
    "deep, and a key twice": b'{"model":"A","x":' + b"[" * 1000 + b"]" * 1000 + b',"model":"K"}',
    # not an object
    "a list": b'[{"model":"A"}]',
    "a string": b'"A"',
    "null": b"null",
    # not a name
    "list for a name": b'{"model":["A"]}',
    "object for a name": b'{"model":{"id":"A"}}',
    "number for a name": b'{"model":1}',
    "true for a name": b'{"model":true}',
    "null for a name": b'{"model":null}',
    "null in moderation": b'{"model":"A","moderation":{"model":null}}',
    "empty": b'{"model":""}',
    "missing": b'{"messages":[]}',
    "missing, nested": b'{"x":{"model":"A"}}',
    "leading blank": b'{"model":" K"}',
    "trailing line feed": b'{"model":"K\\n"}',
    "trailing NUL": b'{"model":"K\\u0000"}',
    "zero width": '{"model":"K\u200b"}'.encode(),
    "soft hyphen": '{"model":"K\u00ad"}'.encode(),
    "Cyrillic": '{"model":"\u041a"}'.encode(),
    "full width": '{"model":"\uff2b"}'.encode(),
    "Kelvin": '{"model":"\u212a"}'.encode(),
    "leading dash": b'{"model":"-K"}',
    "wildcard": b'{"model":"K*"}',
    "percent": b'{"model":"K%20"}',
    "too long": b'{"model":"' + b"K" * 257 + b'"}',
}


SYNTAX = {
    "byte order mark", "UTF-16", "UTF-16LE without a mark", "UTF-16BE without a mark", "UTF-32", "UTF-7", "Latin-1",
    "NaN", "Infinity", "1e400", "a second document", "a NUL after it", "nothing", "cut short", "trailing comma",
    "lone surrogate", "deep lists", "a list", "a string", "null",
}  # fmt: skip
"""What no body may be, wherever its models are."""


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_what_could_be_read_in_two_ways_is_refused(body):
    with pytest.raises(MalformedBodyError):
        CHAT.read(body)


MIXED = BodyReader((Selector(("modelId",), required=True), Selector(("routingConfig", "modelName"))))
CAPITALS = {
    "MODELID beside": b'{"modelId":"A","MODELID":"K"}',
    "modelid beside": b'{"modelid":"K","modelId":"A"}',
    "modelid alone": b'{"modelid":"K"}',
    "twice": b'{"modelId":"A","modelId":"K"}',
    "routingconfig beside": b'{"modelId":"A","routingConfig":{"modelName":"A"},"routingconfig":{"modelName":"K"}}',
    "modelname within": b'{"modelId":"A","routingConfig":{"modelname":"K"}}',
    "escaped": b'{"modelId":"A","model\\u0069d":"K"}',
}


@pytest.mark.parametrize("body", CAPITALS.values(), ids=CAPITALS)
def test_a_key_with_a_capital_has_other_spellings_too(body):
    with pytest.raises(MalformedBodyError):
        MIXED.read(body)


LISTS = {
    "fallbacks as a word": b'{"model":"A","fallbacks":"default"}',
    "fallbacks as an object": b'{"model":"A","fallbacks":{"model":"K"}}',
    "fallbacks as an object, key twice": b'{"model":"A","fallbacks":{"0":{"model":"K"}},"x":{"model":"B"}}',
    "fallbacks twice": b'{"model":"A","fallbacks":[{"model":"K"}],"fallbacks":[]}',
    "Fallbacks": b'{"model":"A","Fallbacks":[{"model":"K"}]}',
    "Kelvin sign": '{"model":"A","fallbac\u212as":[{"model":"K"}]}'.encode(),
    "Kelvin sign, escaped": b'{"model":"A","fallbac\\u212as":[{"model":"K"}]}',
    "model twice in a fallback": b'{"model":"A","fallbacks":[{"model":"A","model":"K"}]}',
    "MODEL in a fallback": b'{"model":"A","fallbacks":[{"MODEL":"K"}]}',
    "null in a fallback": b'{"model":"A","fallbacks":[{"model":null}]}',
    "tools as an object": b'{"model":"A","tools":{"model":"K"}}',
    "Tools": b'{"model":"A","Tools":[{"model":"K"}]}',
    "tool's model an object": b'{"model":"A","tools":[{"model":{"id":"K"}}]}',
    "tool's model twice": b'{"model":"A","tools":[{"model":"A","\\u006dodel":"K"}]}',
    "too many": json.dumps({"model": "A", "fallbacks": [{"model": "A"}] * MAX_NAMES}).encode(),
}


@pytest.mark.parametrize("body", LISTS.values(), ids=LISTS)
def test_lists_of_models_are_read_as_strictly(body):
    with pytest.raises(MalformedBodyError):
        MESSAGES.read(body)


def test_as_many_names_as_allowed():
    body = json.dumps({"model": "A", "fallbacks": [{"model": "B"}] * (MAX_NAMES - 1)}).encode()
    assert len(MESSAGES.read(body).names) == MAX_NAMES


@pytest.mark.parametrize(
    ("value", "stream"), [(b"true", True), (b"false", False), (b"null", False), (b"1", False), (b'"true"', False)]
)
def test_a_stream_is_asked_for_by_true_alone(value, stream):
    assert CHAT.read(b'{"model":"A","stream":' + value + b"}") == Reading(("A",), stream)


@pytest.mark.parametrize(
    ("reader", "body"),
    [*((CHAT, body) for body in REFUSED.values()), *((MESSAGES, body) for body in LISTS.values())],
    ids=[*REFUSED, *LISTS],
)
def test_the_message_quotes_nothing_of_the_body(reader, body):
    with pytest.raises(MalformedBodyError) as caught:
        reader.read(body)
    assert "K" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_hostile_body_costs_no_more_than_its_size():
    """Megabytes of near misses: no parser of ours is quadratic."""
    near_miss = b'{"mode\\u006c":1,"Model":2,"model":"\\"model\\" :"}'
    began = time.process_time()
    assert CHAT.read(b'{"model":"A","x":[' + b",".join([near_miss] * 20_000) + b"]}").names == ("A",)
    assert time.process_time() - began < 5


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_among_many_quotes_the_same_is_refused(body, monkeypatch):
    monkeypatch.setattr(selectors, "MANY_QUOTES", -1)
    with pytest.raises(MalformedBodyError):
        CHAT.read(body)


@pytest.mark.parametrize(("reader", "body", "names"), READ)
def test_among_many_quotes_the_same_is_read(reader, body, names, monkeypatch):
    monkeypatch.setattr(selectors, "MANY_QUOTES", -1)
    assert reader.read(body).names == names


def test_escaped_quotes_without_end_are_no_candidates():
    """Each of them would be looked at by the search among few quotes."""
    text = b'\\"mode' * 100_000
    assert text.count(b'"') < selectors.MANY_QUOTES
    assert CHAT.read(b'{"model":"A","x":"' + text * 3 + b'"}').names == ("A",)
    with pytest.raises(MalformedBodyError):
        CHAT.read(b'{"model":"A","x":"' + text * 3 + b'","model":"K"}')


@pytest.mark.parametrize(("item", "count"), [(b'{"model":1}', 150_000), (b"{}", 1_500_000), (b"1", 2_000_001)])
def test_a_body_of_too_many_values_is_refused_unread(item, count):
    began = time.process_time()
    with pytest.raises(MalformedBodyError) as caught:
        CHAT.read(b'{"model":"A","x":[' + b",".join([item] * count) + b"]}")
    assert caught.value.status == 413
    assert time.process_time() - began < 2


# ---------------------------------------------------------------- the fast reader against slow oracles


class Members(list[tuple[str, Any]]):
    """An object with all its members."""


def _reading(text: str, choose: str, *, fold: bool) -> Any:
    """The document as a parser reads it that takes the first or the last of equal keys, with or without case."""

    def hook(members: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs = [(_fold(key) if fold else key, value) for key, value in members]
        return dict(pairs if choose == "last" else reversed(pairs))

    return json.loads(text, object_pairs_hook=hook)


def _fold(key: str) -> str:
    """Go's ``encoding/json``: simple folding, by which the Kelvin sign is a k and the long s an s."""
    return key.replace("\u212a", "k").replace("\u017f", "s").lower()


def _names(document: Any, path: tuple[str, ...]) -> list[Any]:
    if not path:
        return [document]
    if path[0] == "[]":
        return [name for item in document for name in _names(item, path[1:])] if isinstance(document, list) else []
    return _names(document[path[0]], path[1:]) if isinstance(document, dict) and path[0] in document else []


PATHS = (("model",), ("fallbacks", "[]", "model"), ("tools", "[]", "model"))
KEYS = ("model", "fallbacks", "tools", "stream", "x", "models")


def _spellings(key: str) -> list[str]:
    """A key as JSON text: as it is, in other cases, with folding letters, with one or all letters escaped."""
    folded = key.replace("k", "\u212a").replace("s", "\u017f")
    escaped = [f"\\u{ord(letter):04x}" for letter in key]
    forms = [
        *[key] * 24,
        key.upper(),
        key.capitalize(),
        folded,
        "".join(escaped),
        escaped[0] + key[1:],
        key[:-1] + escaped[-1].upper().replace("U", "u"),
        f"\\u{ord(folded[-1]):04X}".join((key[:-1], "")),
        f"\\u{ord(key[0].upper()):04X}{key[1:]}",
    ]
    return [f'"{form}"' for form in forms]


spelled_keys = st.sampled_from([form for key in KEYS for form in _spellings(key)])


def _object(members: list[tuple[str, str]]) -> str:
    return "{" + ",".join(f"{key}:{value}" for key, value in members) + "}"


names = st.sampled_from(('"A"', '"K"', '"B[1m]"'))
scalars = st.one_of(names, st.sampled_from(("1", "null", "true", '"\\"model\\":"', '"a b"')))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[" + ",".join(items) + "]"),
        st.lists(st.tuples(spelled_keys, inner), max_size=4).map(_object),
    ),
    max_leaves=10,
)
bodies = st.builds(
    lambda model, members, at: _object([*members[:at], *model, *members[at:]]),
    st.lists(st.tuples(st.just('"model"'), names), max_size=1),
    st.lists(st.tuples(spelled_keys, values), max_size=5),
    st.integers(0, 5),
)


@settings(max_examples=200, deadline=None)
@given(bodies)
def test_whatever_is_read_every_parser_would_read_alike(body):
    """The reader refuses, or names exactly what first-wins, last-wins and case-blind parsers find."""
    try:
        reading = MESSAGES.read(body.encode())
    except MalformedBodyError:
        return
    for choose in ("first", "last"):
        for fold in (False, True):
            document = _reading(body, choose, fold=fold)
            assert [name for path in PATHS for name in _names(document, path)] == list(reading.names)
            assert (document.get("stream") is True) == reading.stream


@settings(max_examples=200, deadline=None)
@given(bodies)
def test_both_searches_for_keys_find_the_same(body):
    few, many = (
        [match.lastindex for match in search.finditer(body.encode())]
        for search in (MESSAGES._among_few_quotes, MESSAGES._among_many_quotes)
    )
    assert few == many


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(max_size=8).filter(lambda key: _fold(key) not in KEYS), st.text(max_size=8), max_size=3))
def test_an_ordinary_body_is_never_refused(others):
    body = json.dumps(others | {"model": "claude-fable-5", "stream": True}, ensure_ascii=len(others) % 2 == 0).encode()
    assert MESSAGES.read(body) == Reading(("claude-fable-5",), stream=True)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_make_it_fail_otherwise(data):
    for body in (data, b'{"model":"A",' + data + b"}", b'{"model":"' + data + b'"}'):
        try:
            reading = CHAT.read(body)
        except MalformedBodyError:
            continue
        assert json.loads(body)["model"] == reading.names[0]


# ---------------------------------------------------------------- every operation of every dialect

INVOKING = {
    (operation.selectors, operation.implied, operation.batch): pytest.param(
        operation, id=f"{dialect.name} {operation.id}"
    )
    for dialect in DIALECTS.values()
    for operation in dialect.operations
    if operation.selectors
}  # operations with the same selectors have the same reader


@pytest.mark.parametrize("operation", INVOKING.values())
def test_every_operation_refuses_what_is_ambiguous(operation):
    main = next((s for s in operation.selectors if s.path == ("model",)), None)
    for name, body in REFUSED.items():
        if main is None and name not in SYNTAX:
            continue  # it looks for its model elsewhere
        if main is not None and not main.required and name.startswith("missing"):
            assert operation.reader.read(body).names == ()
        elif main is not None and main.or_key and name == "object for a name":
            assert operation.reader.read(body).names == ("A",)
        elif b"oderation" in body and not any("moderation" in selector.path for selector in operation.selectors):
            continue
        else:
            with pytest.raises(MalformedBodyError):
                operation.reader.read(body)


def _holding(path: tuple[str, ...], name: str) -> Any:
    """A body that names a model at one path."""
    body: Any = name
    for step in reversed(path):
        body = [body] if step.startswith("[]") else {"any" if step == "*" else step: body}
    return body


def _merged(one: Any, other: Any) -> Any:
    """Both bodies in one; where they say different names, the other's."""
    if isinstance(one, dict) and isinstance(other, dict):
        return {**one, **{key: _merged(one[key], value) if key in one else value for key, value in other.items()}}
    return [_merged(one[0], other[0])] if isinstance(one, list) and isinstance(other, list) else other


@pytest.mark.parametrize("operation", INVOKING.values())
def test_every_selector_of_every_operation_finds_its_name(operation):
    needed = [selector for selector in operation.selectors if selector.required]
    for selector in operation.selectors:
        body = _holding(selector.path, "K")
        for other in needed:
            body = _merged(_holding(other.path, "A"), body)
        assert "K" in operation.reader.read(json.dumps(body).encode()).names
        if selector.or_key:
            spelt = json.dumps(body).replace('"K"', json.dumps({selector.or_key: "K"}), 1)
            assert "K" in operation.reader.read(spelt.encode()).names
