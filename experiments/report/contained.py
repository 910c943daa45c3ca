"""The HTML that the report may hold: nothing that loads, runs or leads away by itself."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

# What text and outputs may hold. Elements and attributes that are not listed are refused: a browser
# may load, run or open something for them, today or in a later version.
_HTML = (
    "a abbr article aside b bdi bdo blockquote br caption cite code col colgroup dd del details "
    "dfn div dl dt em figcaption figure h1 h2 h3 h4 h5 h6 hr i img ins kbd li mark ol p pre q s "
    "samp section small span strong style sub summary sup table tbody td tfoot th thead time tr tt "
    "u ul var wbr"
)
_SVG = (
    "circle clipPath defs desc ellipse g line linearGradient marker mask metadata path pattern "
    "polygon polyline radialGradient rect stop style svg symbol text title tspan use a"
)
_MATHML = (
    "math maction menclose merror mfenced mfrac mi mmultiscripts mn mo mover mpadded mphantom "
    "mprescripts mroot mrow ms mspace msqrt mstyle msub msubsup msup mtable mtd mtext mtr munder "
    "munderover none semantics annotation"
)
_ALLOWED = {
    "http://www.w3.org/1999/xhtml": set(_HTML.split()),
    "http://www.w3.org/2000/svg": set(_SVG.split()),
    "http://www.w3.org/1998/Math/MathML": set(_MATHML.split()),
}
_ATTRIBUTES = (
    "abbr align alt border cellpadding cellspacing cite class colspan datetime dir headers height "
    "hidden id label lang name open reversed role rowspan scope scoped span start style tabindex "
    "title translate type valign value width"
)
# Attributes of drawings that may name another part of the drawing, as in `clip-path="url(#a)"`.
_PAINTS = "clip-path fill filter marker-end marker-mid marker-start mask stroke style"
_URL = re.compile(r"(?i)(https?:|mailto:|#|[\w.-]+\.html(#|$)|[\w./-]+$)")
_SENTINEL = "end-of-the-fragment"


def foreign(text: str) -> list[str]:
    """What the report must not hold of this HTML, as a browser would read it; empty if nothing.

    Elements and attributes are allowed if they neither load, run nor lead away by themselves.
    """
    from bleach import html5lib_shim

    parser = html5lib_shim.BleachHTMLParser(
        tags=None, strip=False, consume_entities=True, namespaceHTMLElements=True
    )
    with warnings.catch_warnings(action="ignore"):  # of what this parser's own parts deprecate
        root = parser.parseFragment(f'{text}<div id="{_SENTINEL}"></div>')
    found = []
    ends = [child.get("id") for child in root if isinstance(child.tag, str)]
    if _SENTINEL not in ends:
        found.append("something that is not closed")
    for element in root.iter():
        if not isinstance(element.tag, str) or element is root:  # a comment
            continue
        space, _, tag = element.tag.rpartition("}")
        if tag not in _ALLOWED.get(space.lstrip("{"), ()):
            found.append(f"<{tag}>")
        if tag == "style" and _loads("".join(element.itertext())):
            found.append("a style that loads a file")
        for name, value in element.attrib.items():
            name = str(name).rpartition("}")[2].rpartition(":")[2]
            if not _is_allowed(tag, space.endswith("xhtml"), name, value):
                found.append(f"<{tag} {name}={value[:60]!r}>")
    return found


def _is_allowed(tag: str, is_html: bool, name: str, value: str) -> bool:
    """Whether an attribute neither loads nor runs anything."""
    # Browsers skip these in addresses.
    address = re.sub(r"[\t\n\r]", "", value).strip("".join(map(chr, range(33))))
    if name.startswith("on"):
        return False
    if name == "src":
        return tag == "img" and address.lower().startswith("data:image/")
    if name == "href":
        return bool(_URL.match(address)) if tag == "a" else address.startswith("#")
    if name in ("target", "rel"):
        return tag == "a"
    if name in _PAINTS.split() and _loads(value):
        return False
    if name.startswith(("data-", "aria-")) or name in _ATTRIBUTES.split():
        return True
    # Attributes of drawings and formulas say how they look; those that refer to others are above.
    return not is_html and name not in (
        "attributeName",
        "from",
        "to",
        "values",
        "begin",
        "actiontype",
    )


def _loads(style: str) -> bool:
    """Whether CSS, as a browser reads it, names a file."""
    import tinycss2

    def walk(tokens: Iterable[Any]) -> Iterator[bool]:
        for token in tokens:
            if token.type == "url":
                yield not token.value.lower().startswith(("data:", "#"))
            elif token.type == "at-keyword":
                yield token.lower_value in ("import", "font-face", "namespace")
            elif token.type == "function" and token.lower_name in ("url", "src"):
                strings = [part.value for part in token.arguments if part.type == "string"]
                yield not strings or not strings[0].lower().startswith(("data:", "#"))
            elif token.type == "function" and token.lower_name.endswith("image-set"):
                yield True
            yield from walk(
                getattr(token, "arguments", None) or getattr(token, "content", None) or ()
            )

    return any(walk(tinycss2.parse_component_value_list(style)))
