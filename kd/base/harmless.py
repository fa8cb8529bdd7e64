"""What people are shown: names from data are text that does nothing, and addresses keep their secrets."""

import re
import unicodedata
from typing import Any

ADDRESS = r"\b([a-z][\w+.-]*)://"
LETS_IN = (
    r"pass|passw\w*|pwd|passphrase|token|jwt|bearer|secret|key|auth|authorization|credentials?|sig|signature|sas|"
    r"odbc_connect"  # a whole address, written as a value
)
"""Ends of the names of what lets somebody in, in the query of an address."""
SECRETS = (
    (rf"{ADDRESS}(?<=databricks://)[^\s'\"]+", r"\1://***"),  # a profile, or a scope and a key of its secrets
    (rf"{ADDRESS}(?<=databricks-uc://)[^\s'\"]+", r"\1://***"),
    (r"\b(https?://)\S*@", r"\1***@"),  # of a server a name alone is a token
    (r"(//)[^/\s:@]*:\S*@", r"\1***@"),
    (r"(//)[^/\s]*:[^/\s]*@", r"\1***@"),  # a user may have an @
    (rf"([?&;][\w.-]*?(?:{LETS_IN})=)[^&\s'\"]*", r"\1***"),
    (
        rf"{ADDRESS}(?<!\bsqlite://)(?<!\bfile://)([^\s#'\"]*#)(?!/experiments/\d+/runs)[^\s'\"]+",
        r"\1://\2***",
    ),  # but of a page of MLflow's UI
)
KEPT = "\u200c\u200d\u00ad"
"""Format characters that scripts and emojis need; the others turn or hide text."""
ACTIVE = re.compile(
    r"[\\`*~$|]|<(?=[\w/!?])|&(?=[\w#])|\[(?![-+\d])|\](?=[(\[:])|(?<![^\W_])_|_(?![^\W_])|(?<=:)/(?=/)|(?<=\bwww)\.|@",
    re.IGNORECASE,
)
"""What Markdown reads as more than text; an interval such as [0.1, 0.2] is none."""
FIRST = re.compile(r"\A(\s*(?:\d+(?=[.)]))?)([#+=>.)-])")
"""What makes the line that it begins a heading, a list or a rule."""


def without_secrets(text: str) -> str:
    """Hide what lets somebody in, in every address in a text: passwords, tokens, users of servers, fragments."""
    for secret, hidden in SECRETS:
        text = re.sub(secret, hidden, text, flags=re.IGNORECASE)
    return text


def visible(text: str) -> str:
    """Write out characters that move the cursor, break lines or turn the direction of text, as Python would."""
    return "".join(map(_seen, text))


def _seen(letter: str) -> str:
    kind = unicodedata.category(letter)
    hidden = kind in ("Cc", "Cs", "Zl", "Zp") or (kind == "Cf" and letter not in KEPT)
    return letter.encode("unicode_escape").decode() if hidden else letter


def harmless(text: str) -> str:
    """Return a line for people: nothing in it acts, and no address in it has a secret."""
    return visible(without_secrets(text))


def in_cell(text: str) -> str:
    """Return text that Markdown shows as it is, within a line or in a table."""
    return ACTIVE.sub(r"\\\g<0>", harmless(text))


def in_markdown(text: str) -> str:
    """Return text that Markdown shows as it is, also where it begins a line."""
    return FIRST.sub(r"\1\\\2", in_cell(text))


def in_code(text: str) -> str:
    """Return a code span of Markdown that ends where the text does."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence, pad = "`" * (longest + 1), " " * bool(longest)
    return f"{fence}{pad}{harmless(text)}{pad}{fence}"


def in_csv(value: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula; numbers stay as they are."""
    if not isinstance(value, str):
        return value
    text = harmless(value)
    return f"'{text}" if text.lstrip()[:1] in ("=", "+", "-", "@", "＝", "＋", "－", "＠") else text
