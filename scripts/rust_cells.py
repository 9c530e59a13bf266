"""Takes apart the Rust of a notebook cell, as far as turning cells into functions needs it: statements and commands.

It knows strings, characters, lifetimes, comments and brackets, and which statements end at their closing brace.
It does not check the code: that is rustc's work.
"""

import re

# Where a statement begins with one of these, it ends at its closing brace or at `;`, whichever comes first.
ITEMS = {"fn", "struct", "enum", "union", "trait", "impl", "mod", "macro_rules", "extern"}
LOOPS = {"for", "while", "loop"}
BRANCHES = {"if", "match", "unsafe"}
MODIFIED = {"async", "extern", "fn", "impl", "trait", "unsafe"}

TOKEN = re.compile(
    r"""
    (?P<space>\s+|//[^\n]*)
  | (?P<comment>/\*)
  | (?P<raw>(?:b|c)?r(?P<hashes>\#*)".*?"(?P=hashes))
  | (?P<string>(?:b|c)?"(?:\\.|[^"\\])*")
  | (?P<char>b?'(?:\\(?:u\{[0-9a-fA-F_]+\}|x[0-9a-fA-F]{2}|.)|[^'\\])')
  | (?P<lifetime>'\w+)
  | (?P<word>\w+)
  | (?P<mark>.)
    """,
    re.VERBOSE | re.DOTALL,
)


def tokens(code):
    """(kind, text, start) of everything in `code` but white space and comments."""
    at = 0
    while at < len(code):
        match = TOKEN.match(code, at)
        kind, end = match.lastgroup, match.end()
        if kind == "hashes":
            kind = "raw"
        if kind == "comment":
            end = end_of_comment(code, at)
        elif kind != "space":
            yield kind, match[0], at
        at = end


def end_of_comment(code, at):
    depth = 0
    for mark in re.finditer(r"/\*|\*/", code[at:]):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return at + mark.end()
    raise ValueError("a comment /* is not closed")


def kind_of(statement):
    """item, loop, branch, block or plain: decides where a statement ends, and whether it can be a cell's value."""
    words = [text for _, text, _ in tokens(statement)]
    at = 0
    while at < len(words):
        if words[at] == "#":  # an attribute
            at += 1 + bracketed(words[at + 1 :])
        elif words[at] == "pub":
            at += 1
            if at < len(words) and words[at] == "(":
                at += bracketed(words[at:])
        elif words[at].startswith("'") and words[at + 1 : at + 2] == [":"]:  # a loop's label
            at += 2
        elif words[at] in ("const", "async", "unsafe") and words[at + 1 : at + 2] and words[at + 1] in MODIFIED:
            at += 1
        else:
            break
    word = words[at] if at < len(words) else ""
    for kind, firsts in (("item", ITEMS), ("loop", LOOPS), ("branch", BRANCHES), ("block", {"{"})):
        if word in firsts:
            return kind
    return "plain"


def bracketed(words):
    """How many words the bracket takes that `words` begin with."""
    depth = 0
    for at, word in enumerate(words):
        depth += (word in "([{") - (word in ")]}") if len(word) == 1 else 0
        if depth == 0:
            return at + 1
    return len(words)


def statements(code):
    """The statements of `code`, each with the `;` or `}` that ends it; the last may have neither: a value."""
    found, start, depth = [], 0, 0
    every = list(tokens(code))
    for number, (kind, text, at) in enumerate(every):
        if kind != "mark":
            continue
        depth += (text in "([{") - (text in ")]}")
        if depth < 0:
            raise ValueError(f"a bracket is closed that was not opened: {text}")
        if depth > 0:
            continue
        end = at + 1
        if text == "}" and kind_of(code[start:end]) != "plain":
            follows = every[number + 1][1] if number + 1 < len(every) else ""
            ended = follows not in ("else", ".", "?", ";")
        else:
            ended = text == ";"
        if ended:
            found.append(code[start:end])
            start = end
    if depth:
        raise ValueError("a bracket is not closed")
    rest = code[start:]
    if any(True for _ in tokens(rest)):
        found.append(rest)
    return found


def is_value(statement):
    """Would evcxr show this as the cell's value, where it stands last?"""
    last = [text for _, text, _ in tokens(statement)][-1]
    return last != ";" and kind_of(statement) not in ("item", "loop")
