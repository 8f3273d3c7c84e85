"""graph knows MXNet symbols, and nothing of our factors, models or structures."""
import ast
from pathlib import Path

import sss_gluon.graph

FOLDER = Path(sss_gluon.graph.__file__).parent
BELOW = {'errors', 'files'}     # the only modules of this package outside graph that it may import


def test_graph_imports_nothing_above_it():
    found = set()
    for path in FOLDER.rglob('*.py'):
        up = len(path.relative_to(FOLDER).parts) + 1        # dots that lead to sss_gluon
        for node in ast.walk(ast.parse(path.read_text('utf-8'))):
            if isinstance(node, ast.ImportFrom):
                assert node.level or not node.module.startswith('sss_gluon'), path
                if node.level == up:
                    found.add(node.module.split('.')[0])
    assert found == BELOW
