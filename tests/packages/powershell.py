"""Whether scripts of PowerShell can be parsed: powershell.py FILE…"""

import sys
from pathlib import Path

import tree_sitter_powershell
from tree_sitter import Language, Parser

parser = Parser(Language(tree_sitter_powershell.language()))


def faults(node):
    if node.is_error or node.is_missing:
        yield node.start_point
    for child in node.children:
        yield from faults(child)


# Proof that it finds something.
assert list(faults(parser.parse(b"if ($a { }").root_node))
for path in sys.argv[1:]:
    for row, column in faults(parser.parse(Path(path).read_bytes()).root_node):
        sys.exit(f"{path}:{row + 1}:{column + 1}: PowerShell cannot read this")
